"""How bytes get from one place to another: what `balance.adapters.copier.FsspecCopier` is made of."""

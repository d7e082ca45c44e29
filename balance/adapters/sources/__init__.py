"""The kinds of sources that `balance.adapters.readers.Readers` can read, one file each."""

import pytest


@pytest.fixture
def empty_url(tmp_path):
    return f"sqlite:///{tmp_path}/empty.db"

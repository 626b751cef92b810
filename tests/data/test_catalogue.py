"""Sources by name."""

import pickle

import pytest

from adapcli.data.catalogue import open_catalogue
from adapcli.errors import UsageError


@pytest.mark.parametrize("name", ["nope:x", "npz", "pictures.npz", "tar:x"])
def test_an_unknown_kind_names_those_there_are(name):
    with pytest.raises(UsageError, match="not known") as caught:
        open_catalogue(name)
    assert "npz:, webdataset: and hf:" in caught.value.hint


def test_a_catalogue_can_be_sent_to_another_process(picture_npz, picture_shards, picture_tables):
    for name in (f"npz:{picture_npz}", f"webdataset:{picture_shards}", f"hf:{picture_tables}"):
        entries = open_catalogue(name).parts["all"]
        again = pickle.loads(pickle.dumps(entries))
        assert [entry.key() for entry in again[:9]] == [entry.key() for entry in entries[:9]]
        assert [entry.mark() for entry in again[:9]] == [entry.mark() for entry in entries[:9]]
        assert not any(entry.is_grey() for entry in again[:9])

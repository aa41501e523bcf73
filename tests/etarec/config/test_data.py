"""Where data come from, their split, and addresses that hold a secret."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from etarec.config import DataConfig

SIMULATED = DataConfig(dataset="simulated")


@pytest.mark.parametrize("given", [{}, {"dataset": "simulated", "path": "log.csv"}])
def test_data_come_from_exactly_one_source(given):
    with pytest.raises(ValidationError, match="exactly one of"):
        DataConfig(**given)
    assert DataConfig(path="log.csv").dataset is None


def test_shares_must_leave_something_to_train_on():
    with pytest.raises(ValidationError, match="must leave a share for training"):
        replace(SIMULATED, valid_share=0.5, test_share=0.5)
    assert replace(SIMULATED, valid_share=0.5, test_share=0.49).test_share == 0.49


@pytest.mark.parametrize("fields", [{"rehearsal_share": 0.2}, {"rehearsal_share": 0.5}, {"rehearsal_share": 0.1}])
def test_a_rehearsal_holds_more_out_than_validation_and_leaves_something_to_train(fields):
    assert DataConfig(dataset="simulated", rehearsal_share=0.35).rehearsal_share == 0.35
    with pytest.raises(ValidationError, match="rehearsal_share must lie between valid_share and 1 - test_share"):
        DataConfig(dataset="simulated", **fields)
    with pytest.raises(ValidationError, match="rehearsal_share needs split: ratio"):
        DataConfig(dataset="simulated", split="leave_one_out", rehearsal_share=0.35)


@pytest.mark.parametrize(
    "path",
    [
        "s3://AKIA:hunter2@bucket/log.csv",
        "https://ada:hunter2@host/log.csv",
        "https://ada:hunter/2@host:80/log.csv",
        "https://host/log.csv?access_token=hunter2",
        "https://host/log.csv?a=1&X-Amz-Signature=hunter2",
        "https://hunter2@host/log.csv",
        "https://host/log.csv#access_token=hunter2",
        "https://host/log.csv?version=3#token=hunter2",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(path: str) -> None:
    with pytest.raises(ValueError, match="given an address with a password or token") as caught:
        DataConfig(path=path)
    assert "hunter" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    "path",
    [
        "/home/a:b@c/log.csv?key=1",
        "s3://bucket/log.csv",
        "https://host:80/a@b.csv",
        "https://host/log.csv?version=3",
        "https://host/log.csv#part=3",
        "abfs://box@account.net/log.csv",
    ],
)
def test_other_paths_and_addresses_are_accepted(path: str) -> None:
    assert DataConfig(path=path).path == path

"""Every operation of botocore's S3 model is in the table of docs/s3.md, and does what that says."""

import pathlib
import re

import botocore.exceptions
import pytest

import service_models

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "s3.md"
VERDICTS = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", TABLE.read_text(), re.MULTILINE))

# Not reached through the plain client: one has a host of its own, the other is signed for S3 Express.
ELSEWHERE = {"WriteGetObjectResponse", "ListDirectoryBuckets"}


def test_the_table_has_every_operation_once():
    assert set(VERDICTS) == set(service_models.model("s3").operation_names)
    assert set(VERDICTS.values()) == {"works", "kept", "default", "refused"}


@pytest.fixture(scope="module")
def s3(lake_server):
    client = lake_server.client("s3", parameter_validation=False)
    client.create_bucket(Bucket="aaa")
    return client


@pytest.mark.parametrize("operation", sorted(set(service_models.model("s3").operation_names) - ELSEWHERE))
def test_an_operation_answers_as_the_table_says(s3, operation):
    call = getattr(s3, service_models.method_name(operation))
    parameters = service_models.parameters("s3", operation)
    if operation == "DeleteBucket":
        parameters["Bucket"] = "absent-bucket"
    code, status, message = None, 200, ""
    try:
        call(**parameters)
    except botocore.exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if VERDICTS[operation] == "refused":
        assert (code, status) == ("NotImplemented", 501), message
        assert message
    else:
        # A value that is refused is named as such, never the operation.
        assert operation not in message and status != 500, message
        assert code != "NotImplemented" or ":" in message, message

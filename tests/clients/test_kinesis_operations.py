"""`docs/kinesis.md` against botocore's model: every operation is there, and what it says is so."""

import re

import botocore.exceptions
import pytest

import service_models
from alluvium_server import REPO

ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)
TABLE = dict(ROW.findall((REPO / "docs/kinesis.md").read_text()))


def test_every_operation_of_the_model_is_in_the_table():
    assert sorted(TABLE) == sorted(service_models.model("kinesis").operation_names)


@pytest.mark.parametrize("operation", sorted(TABLE))
def test_what_the_table_says_is_so(lake_server, operation):
    client = lake_server.client("kinesis", parameter_validation=False)
    name = "documented"
    try:
        client.create_stream(StreamName=name, ShardCount=1)
    except client.exceptions.ResourceInUseException:
        pass
    parameters = service_models.parameters("kinesis", operation)
    if "StreamName" in service_models.model("kinesis").operation_model(operation).input_shape.members:
        parameters["StreamName"] = name
    try:
        getattr(client, service_models.method_name(operation))(**parameters)
        refusal = ""
    except botocore.exceptions.ClientError as error:
        refusal = error.response["Error"]["Message"]
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400, refusal
    not_built = "is not supported by this release" in refusal
    assert not_built == ("refused by name" in TABLE[operation]), refusal
    if not_built:
        assert operation in refusal or "MinimumThroughputBillingCommitment" in refusal

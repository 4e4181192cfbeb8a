"""What AWS has and this release does not is refused by its own name, with its protocol's code.

The operations come from botocore's models, so one that botocore learns is asked for here too.
"""

import botocore.exceptions
import pytest

import service_models

BUILT = {
    "firehose": {
        "CreateDeliveryStream",
        "DeleteDeliveryStream",
        "DescribeDeliveryStream",
        "ListDeliveryStreams",
        "ListTagsForDeliveryStream",
        "PutRecord",
        "PutRecordBatch",
        "StartDeliveryStreamEncryption",
        "StopDeliveryStreamEncryption",
        "TagDeliveryStream",
        "UntagDeliveryStream",
        "UpdateDestination",
    },
    "glue": {
        "CreateDatabase",
        "DeleteDatabase",
        "GetDatabase",
        "GetDatabases",
        "GetTable",
        "GetTables",
    },
    "sts": {"GetCallerIdentity"},
    "athena": {
        "BatchGetNamedQuery",
        "BatchGetQueryExecution",
        "CreateNamedQuery",
        "CreateWorkGroup",
        "DeleteNamedQuery",
        "DeleteWorkGroup",
        "GetDataCatalog",
        "GetDatabase",
        "GetNamedQuery",
        "GetQueryExecution",
        "GetQueryResults",
        "GetQueryRuntimeStatistics",
        "GetTableMetadata",
        "GetWorkGroup",
        "ListDataCatalogs",
        "ListDatabases",
        "ListEngineVersions",
        "ListNamedQueries",
        "ListQueryExecutions",
        "ListTableMetadata",
        "ListTagsForResource",
        "ListWorkGroups",
        "StartQueryExecution",
        "StopQueryExecution",
        "TagResource",
        "UntagResource",
        "UpdateNamedQuery",
        "UpdateWorkGroup",
    },
}

# S3 Tables has nearly all: here what it has not.
S3TABLES_UNBUILT = {
    "DeleteTableBucketReplication",
    "DeleteTableReplication",
    "GetTableBucketReplication",
    "GetTableRecordExpirationConfiguration",
    "GetTableRecordExpirationJobStatus",
    "GetTableReplication",
    "GetTableReplicationStatus",
    "PutTableBucketReplication",
    "PutTableRecordExpirationConfiguration",
    "PutTableReplication",
}

CODES = {
    "firehose": {"UnknownOperationException"},
    "glue": {"UnknownOperationException"},
    "athena": {"UnknownOperationException"},
    "s3tables": {"UnknownOperationException"},
    "sts": {"InvalidAction"},
}

# Unsigned, or signed with another form, on AWS: not reached through the plain client.
UNSIGNED_STS = {"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"}


def unbuilt():
    for service, built in BUILT.items():
        for operation in service_models.model(service).operation_names:
            if operation not in built:
                yield service, operation
    for operation in sorted(S3TABLES_UNBUILT):
        yield "s3tables", operation


@pytest.fixture(scope="session")
def clients(lake_server):
    made = {}

    def client(service):
        if service not in made:
            made[service] = lake_server.client(service, parameter_validation=False)
        return made[service]

    return client


@pytest.mark.parametrize(("service", "operation"), unbuilt())
def test_an_operation_that_is_not_built_is_refused_by_its_name(clients, service, operation):
    call = getattr(clients(service), service_models.method_name(operation))
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**service_models.parameters(service, operation))
    response = error.value.response
    if operation in UNSIGNED_STS:
        assert response["Error"]["Code"] in {"MissingAuthenticationToken", "InvalidAction"}
    else:
        assert response["Error"]["Code"] in CODES[service]
        assert operation in response["Error"]["Message"], response["Error"]["Message"]
    assert 400 <= response["ResponseMetadata"]["HTTPStatusCode"] < 500
    assert response["ResponseMetadata"]["RequestId"]


def test_the_lists_name_operations_that_exist():
    for service, built in BUILT.items():
        assert built <= set(service_models.model(service).operation_names)
    assert S3TABLES_UNBUILT <= set(service_models.model("s3tables").operation_names)


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        (service, operation)
        for service in ("s3tables", "glue", "firehose", "athena", "sts", "kinesis")
        for operation in service_models.model(service).operation_names
        if operation not in S3TABLES_UNBUILT
        and operation in BUILT.get(service, {operation})
    ],
)
def test_a_built_operation_is_never_called_unknown(clients, service, operation):
    call = getattr(clients(service), service_models.method_name(operation))
    try:
        call(**service_models.parameters(service, operation))
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] not in CODES["glue"] | CODES["sts"], error
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] < 500, error

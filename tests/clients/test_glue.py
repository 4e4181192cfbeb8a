"""Glue's Data Catalog through boto3: resource links, and table buckets' catalogs read through them."""

import botocore.exceptions
import pytest

FIELDS = [
    {"name": "id", "type": "int", "required": True},
    {"name": "name", "type": "string"},
    {"name": "at", "type": "timestamptz"},
    {"name": "price", "type": "decimal(12,2)"},
]


@pytest.fixture
def glue(lake_server):
    return lake_server.client("glue", parameter_validation=False)


@pytest.fixture
def table(make_table):
    return make_table(FIELDS)


@pytest.fixture
def link(glue, table, unique):
    name = unique("link").replace("-", "_")
    glue.create_database(DatabaseInput=link_input(name, table))
    return name


def target(table, **change):
    return {
        "CatalogId": f"000000000000:{table['catalog']}",
        "DatabaseName": table["namespace"],
        **change,
    }


def link_input(name, table, **more):
    return {"Name": name, "TargetDatabase": target(table), **more}


def refused(call, **named):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**named)
    assert error.value.response["Error"]["Message"], "a refusal says why"
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def test_a_resource_link_is_described_as_it_was_made(glue, table, unique):
    name = unique("Link").replace("-", "_")
    glue.create_database(
        DatabaseInput=link_input(name, table, Description="demo", Parameters={"a": "b"})
    )
    found = glue.get_database(Name=name)["Database"]
    assert found["Name"] == name.lower()
    assert found["TargetDatabase"] == target(table)
    assert (found["Description"], found["Parameters"]) == ("demo", {"a": "b"})
    assert found["CatalogId"] == "000000000000" and found["CreateTime"].year >= 2024
    code, message = refused(glue.create_database, DatabaseInput=link_input(name, table))
    assert code == "AlreadyExistsException" and name.lower() in message
    glue.delete_database(Name=name.upper())
    assert refused(glue.get_database, Name=name)[0] == "EntityNotFoundException"
    assert refused(glue.delete_database, Name=name)[0] == "EntityNotFoundException"


def test_a_link_needs_no_target_that_exists_and_says_so_when_it_is_followed(glue, table, unique):
    name = unique("link").replace("-", "_")
    absent = {"Name": name, "TargetDatabase": target(table, DatabaseName="absent")}
    glue.create_database(DatabaseInput=absent)
    code, message = refused(glue.get_table, DatabaseName=name, Name="t")
    assert code == "EntityNotFoundException" and name in message


@pytest.mark.parametrize("name", ["", "n" * 256, "a/b", "a\tb", "a\x00b", ".."])
def test_a_name_past_the_edge_is_refused(glue, table, name):
    code, _ = refused(glue.create_database, DatabaseInput=link_input(name, table))
    assert code == "InvalidInputException"


def test_a_name_of_255_characters_is_accepted(glue, table):
    glue.create_database(DatabaseInput=link_input("n" * 255, table))
    glue.delete_database(Name="n" * 255)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"TargetDatabase": None}, "TargetDatabase"),
        ({"LocationUri": "s3://b/p"}, "LocationUri"),
        ({"FederatedDatabase": {"Identifier": "x", "ConnectionName": "y"}}, "FederatedDatabase"),
        (
            {
                "CreateTableDefaultPermissions": [
                    {
                        "Principal": {"DataLakePrincipalIdentifier": "arn:aws:iam::0:role/r"},
                        "Permissions": ["ALL"],
                    }
                ]
            },
            "CreateTableDefaultPermissions",
        ),
    ],
)
def test_what_a_database_cannot_have_is_refused_by_name(glue, table, change, named):
    given = {key: v for key, v in {**link_input("refused", table), **change}.items() if v}
    code, message = refused(glue.create_database, DatabaseInput=given)
    assert code == "InvalidInputException" and named in message


@pytest.mark.parametrize(
    "catalog",
    ["", "000000000000", "111111111111:s3tablescatalog/b", "000000000000:other/b", "s3tablescatalog"],
)
def test_a_target_that_is_no_table_bucket_is_refused(glue, table, catalog):
    given = {"Name": "refused", "TargetDatabase": target(table, CatalogId=catalog)}
    code, message = refused(glue.create_database, DatabaseInput=given)
    assert code == "InvalidInputException" and "CatalogId" in message


def test_tags_of_a_database_are_refused_by_name(glue, table):
    call = {"DatabaseInput": link_input("refused", table), "Tags": {"a": "b"}}
    code, message = refused(glue.create_database, **call)
    assert code == "InvalidInputException" and "Tags" in message


def test_a_table_is_the_same_through_its_link_and_its_catalog(lake_server, glue, table, link):
    through = glue.get_table(DatabaseName=link, Name=table["table"])["Table"]
    direct = glue.get_table(
        CatalogId=f"000000000000:{table['catalog']}",
        DatabaseName=table["namespace"],
        Name=table["table"],
    )["Table"]
    location = lake_server.client("s3tables").get_table(tableArn=table["table_arn"])
    for found in (through, direct):
        assert found["TableType"] == "EXTERNAL_TABLE"
        assert found["Parameters"]["table_type"] == "ICEBERG"
        assert found["Parameters"]["metadata_location"] == location["metadataLocation"]
        assert found["StorageDescriptor"]["Location"] == location["warehouseLocation"]
        columns = [(c["Name"], c["Type"]) for c in found["StorageDescriptor"]["Columns"]]
        assert columns == [
            ("id", "int"), ("name", "string"), ("at", "timestamp"), ("price", "decimal(12,2)")
        ]
    assert through["DatabaseName"] == link
    assert direct["DatabaseName"] == table["namespace"]
    code, message = refused(glue.get_table, DatabaseName=link, Name="absent")
    assert code == "EntityNotFoundException" and "absent" in message


def test_tables_and_databases_are_listed_in_pages(lake_server, glue, table, link, unique):
    s3tables = lake_server.client("s3tables")
    place = {"tableBucketARN": table["bucket_arn"], "namespace": table["namespace"]}
    for name in ("a", "b"):
        s3tables.create_table(**place, name=name, format="ICEBERG")
    expected = ["a", "b", table["table"]]
    pages = glue.get_paginator("get_tables").paginate(
        DatabaseName=link, PaginationConfig={"PageSize": 2}
    )
    assert [[t["Name"] for t in page["TableList"]] for page in pages] == [expected[:2], expected[2:]]
    pages = list(glue.get_paginator("get_databases").paginate(PaginationConfig={"PageSize": 1}))
    names = [database["Name"] for page in pages for database in page["DatabaseList"]]
    assert link in names and names == sorted(names)
    found = glue.get_databases(CatalogId=f"000000000000:{table['catalog']}")["DatabaseList"]
    assert [database["Name"] for database in found] == [table["namespace"]]
    for bad in (0, 101):
        code, message = refused(glue.get_tables, DatabaseName=link, MaxResults=bad)
        assert code == "InvalidInputException" and "MaxResults" in message


def test_a_table_buckets_catalog_is_read_only_here(glue, table):
    catalog = f"000000000000:{table['catalog']}"
    for call, named in (
        (glue.create_database, {"DatabaseInput": link_input("x", table)}),
        (glue.delete_database, {"Name": table["namespace"]}),
    ):
        code, message = refused(call, CatalogId=catalog, **named)
        assert code == "InvalidInputException" and "S3 Tables" in message
    for absent in ("000000000000:s3tablescatalog/absent", "111111111111", "anything"):
        code, message = refused(glue.get_databases, CatalogId=absent)
        assert code == "EntityNotFoundException" and absent in message


def test_links_are_of_their_region(lake_server, glue, link):
    elsewhere = lake_server.client("glue", region="ap-south-1")
    assert refused(elsewhere.get_database, Name=link)[0] == "EntityNotFoundException"
    assert elsewhere.get_databases()["DatabaseList"] == []

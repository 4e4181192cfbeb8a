"""Versions of S3 objects through boto3: made, read, removed, listed, restored."""

import re

import pytest

from test_s3 import MIB, bucket, fetch, lower, refused, s3  # noqa: F401


@pytest.fixture
def versioned(s3, bucket):  # noqa: F811
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def put(s3, bucket, key, body, **more):  # noqa: F811
    return s3.put_object(Bucket=bucket, Key=key, Body=body, **more)["VersionId"]


def read(s3, bucket, key, version=None):  # noqa: F811
    named = {"VersionId": version} if version else {}
    return s3.get_object(Bucket=bucket, Key=key, **named)["Body"].read()


def listed(s3, bucket, **more):  # noqa: F811
    """Versions and delete markers as (key, id, latest), in their order within each kind."""
    pages = list(s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **more))
    kind = lambda name: [(v["Key"], v["VersionId"], v["IsLatest"]) for p in pages for v in p.get(name, [])]  # noqa: E731
    return kind("Versions"), kind("DeleteMarkers")


def test_a_bucket_says_whether_it_keeps_versions(s3, bucket):  # noqa: F811
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"null")
    assert "VersionId" not in s3.get_object(Bucket=bucket, Key="k")
    assert listed(s3, bucket) == ([("k", "null", True)], [])
    for status in ("Enabled", "Suspended"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
        assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    change = s3.put_bucket_versioning
    assert refused(change, Bucket=bucket, VersioningConfiguration={})[0] == "IllegalVersioningConfigurationException"
    assert refused(change, Bucket=bucket, VersioningConfiguration={"Status": "Off"})[0] == "MalformedXML"
    code, status, message = refused(
        change, Bucket=bucket, VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"}, MFA="a 1"
    )
    assert (code, status) == ("NotImplemented", 501) and ("mfa" in message.lower())
    assert refused(change, Bucket="absent-" + bucket, VersioningConfiguration={"Status": "Enabled"})[0] == "NoSuchBucket"


def test_what_is_replaced_or_deleted_stays(s3, versioned):  # noqa: F811
    first, second = put(s3, versioned, "k", b"1"), put(s3, versioned, "k", b"22")
    assert first != second
    assert read(s3, versioned, "k") == b"22"
    assert read(s3, versioned, "k", first) == b"1"
    head = s3.head_object(Bucket=versioned, Key="k", VersionId=first)
    assert (head["VersionId"], head["ContentLength"]) == (first, 1)
    part = s3.get_object(Bucket=versioned, Key="k", VersionId=second, Range="bytes=1-")
    assert (part["VersionId"], part["Body"].read()) == (second, b"2")
    attributes = s3.get_object_attributes(
        Bucket=versioned, Key="k", VersionId=first, ObjectAttributes=["ObjectSize"]
    )
    assert (attributes["ObjectSize"], attributes["VersionId"]) == (1, first)

    deleted = s3.delete_object(Bucket=versioned, Key="k")
    marker = deleted["VersionId"]
    assert deleted["DeleteMarker"] is True
    with pytest.raises(s3.exceptions.NoSuchKey) as caught:
        s3.get_object(Bucket=versioned, Key="k")
    headers = lower(caught.value.response["ResponseMetadata"]["HTTPHeaders"])
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    assert read(s3, versioned, "k", first) == b"1"
    code, status, _ = refused(s3.get_object, Bucket=versioned, Key="k", VersionId=marker)
    assert (code, status) == ("MethodNotAllowed", 405)
    url = s3.generate_presigned_url("head_object", {"Bucket": versioned, "Key": "k", "VersionId": marker})
    status, headers, body = fetch(url, "HEAD")
    assert (status, headers["x-amz-delete-marker"], headers["allow"], body) == (405, "true", "DELETE", b"")
    assert listed(s3, versioned) == ([("k", second, False), ("k", first, False)], [("k", marker, True)])
    assert refused(s3.delete_bucket, Bucket=versioned)[0] == "BucketNotEmpty"

    undone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker)
    assert read(s3, versioned, "k") == b"22"
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=second)
    assert gone["VersionId"] == second and "DeleteMarker" not in gone
    assert read(s3, versioned, "k") == b"1"
    s3.delete_object(Bucket=versioned, Key="k", VersionId=first)
    assert listed(s3, versioned) == ([], [])
    s3.delete_bucket(Bucket=versioned)


def test_versions_that_are_not_there(s3, versioned):  # noqa: F811
    version = put(s3, versioned, "k", b"x")
    absent = "0" * len(version)
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId=absent)[:2] == ("NoSuchVersion", 404)
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId="null")[:2] == ("NoSuchVersion", 404)
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId="3HL4kqtJ")[:2] == ("InvalidArgument", 400)
    assert refused(s3.head_object, Bucket=versioned, Key="k", VersionId=absent)[1] == 404
    assert refused(s3.delete_object, Bucket=versioned, Key="k", VersionId="3HL4kqtJ")[:2] == ("InvalidArgument", 400)
    assert s3.delete_object(Bucket=versioned, Key="k", VersionId=absent)["VersionId"] == absent
    assert read(s3, versioned, "k", version) == b"x"


def test_a_suspended_bucket_replaces_its_null_version(s3, versioned):  # noqa: F811
    kept = put(s3, versioned, "k", b"kept")
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
    assert put(s3, versioned, "k", b"1") == "null"
    assert put(s3, versioned, "k", b"2") == "null"
    assert listed(s3, versioned) == ([("k", "null", True), ("k", kept, False)], [])
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    assert listed(s3, versioned) == ([("k", kept, False)], [("k", "null", True)])
    s3.delete_object(Bucket=versioned, Key="k", VersionId="null")
    assert read(s3, versioned, "k") == b"kept"


def test_a_version_is_restored_by_a_copy(s3, versioned):  # noqa: F811
    first = put(s3, versioned, "k", b"first", Metadata={"a": "1"}, ContentType="text/plain")
    put(s3, versioned, "k", b"second")
    source = {"Bucket": versioned, "Key": "k", "VersionId": first}
    copied = s3.copy_object(Bucket=versioned, Key="k", CopySource=source)
    assert copied["CopySourceVersionId"] == first and copied["VersionId"] not in (first, None)
    got = s3.get_object(Bucket=versioned, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"first", {"a": "1"}, "text/plain")
    assert len(listed(s3, versioned)[0]) == 3
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    assert refused(s3.copy_object, Bucket=versioned, Key="c", CopySource={"Bucket": versioned, "Key": "k"})[0] == "NoSuchKey"
    of_marker = {"Bucket": versioned, "Key": "k", "VersionId": marker}
    assert refused(s3.copy_object, Bucket=versioned, Key="c", CopySource=of_marker)[0] == "InvalidRequest"
    upload = s3.create_multipart_upload(Bucket=versioned, Key="parts")["UploadId"]
    key = {"Bucket": versioned, "Key": "parts", "UploadId": upload}
    part = s3.upload_part_copy(PartNumber=1, CopySource=source, **key)
    assert part["CopySourceVersionId"] == first
    parts = [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **key)
    again = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **key)
    assert done["VersionId"] == again["VersionId"]
    assert read(s3, versioned, "parts", done["VersionId"]) == b"first"
    assert listed(s3, versioned, Prefix="parts")[0] == [("parts", done["VersionId"], True)]


def test_conditions_are_of_the_current_version(s3, versioned):  # noqa: F811
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1", IfNoneMatch="*")
    for _ in range(2):
        assert refused(s3.put_object, Bucket=versioned, Key="k", Body=b"1", IfNoneMatch="*")[1] == 412
    assert len(listed(s3, versioned)[0]) == 1
    s3.put_object(Bucket=versioned, Key="k", Body=b"2", IfMatch=first["ETag"])
    assert refused(s3.put_object, Bucket=versioned, Key="k", Body=b"3", IfMatch=first["ETag"])[1] == 412
    s3.put_object(Bucket=versioned, Key="k", Body=b"4", IfMatch="*")
    assert refused(s3.put_object, Bucket=versioned, Key="other", Body=b"4", IfMatch="*")[1] == 404
    assert refused(s3.delete_object, Bucket=versioned, Key="k", IfMatch=first["ETag"])[1] == 412
    assert s3.delete_object(Bucket=versioned, Key="k", IfMatch="*")["DeleteMarker"] is True
    s3.put_object(Bucket=versioned, Key="k", Body=b"5", IfNoneMatch="*")
    assert read(s3, versioned, "k") == b"5"


def test_many_versions_are_deleted_at_once(s3, versioned):  # noqa: F811
    versions = [put(s3, versioned, "k", str(n).encode()) for n in range(3)]
    etag = s3.head_object(Bucket=versioned, Key="k")["ETag"]
    wanted = [{"Key": "k", "VersionId": versions[0]}, {"Key": "k"}, {"Key": "none"}, {"Key": "k", "VersionId": "bad"},
              {"Key": "k", "VersionId": versions[1], "ETag": etag}]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": wanted})
    assert [(d["Key"], d.get("VersionId"), d.get("DeleteMarker")) for d in answer["Deleted"]] == [
        ("k", versions[0], None), ("k", None, True), ("none", None, True)]
    assert [(e["Code"], e["VersionId"]) for e in answer["Errors"]] == [
        ("NoSuchVersion", "bad"), ("PreconditionFailed", versions[1])]
    marker = answer["Deleted"][1]["DeleteMarkerVersionId"]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k", "VersionId": marker}]})
    assert answer["Deleted"] == [
        {"Key": "k", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}]
    assert read(s3, versioned, "k") == b"2"


def test_versions_are_listed_in_pages_and_groups(s3, versioned):  # noqa: F811
    for n in range(3):
        for key in ("a", "d/1", "d/2", "é b", "\x01"):
            put(s3, versioned, key, str(n).encode())
    s3.delete_object(Bucket=versioned, Key="a")
    whole = listed(s3, versioned)
    assert len(whole[0]) == 15 and len(whole[1]) == 1
    assert [key for key, _, _ in whole[0]] == ["\x01"] * 3 + ["a"] * 3 + ["d/1"] * 3 + ["d/2"] * 3 + ["é b"] * 3
    for size in (1, 4, 7):
        assert listed(s3, versioned, PaginationConfig={"PageSize": size}) == whole
    assert listed(s3, versioned, Prefix="d/", PaginationConfig={"PageSize": 2})[0] == whole[0][6:12]
    pages = list(s3.get_paginator("list_object_versions").paginate(
        Bucket=versioned, Delimiter="/", PaginationConfig={"PageSize": 3}))
    assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == ["d/"]
    assert [v["Key"] for p in pages for v in p.get("Versions", [])] == ["\x01"] * 3 + ["a"] * 3 + ["é b"] * 3
    page = s3.list_object_versions(Bucket=versioned, MaxKeys=2)
    assert (page["IsTruncated"], page["NextKeyMarker"], page["MaxKeys"]) == (True, "\x01", 2)
    rest = s3.list_object_versions(Bucket=versioned, KeyMarker="a")
    assert rest["Versions"][0]["Key"] == "d/1"
    version = page["Versions"][0]
    assert {"ETag", "Size", "StorageClass", "LastModified", "Owner"} <= set(version)
    code, _, message = refused(s3.list_object_versions, Bucket=versioned, VersionIdMarker=version["VersionId"])
    assert code == "InvalidArgument" and "marker" in message


def test_versions_and_markers_are_listed_as_one_sequence(s3, versioned):  # noqa: F811
    made = []
    for key in ("a", "b<Version>", "c"):
        ids = [put(s3, versioned, key, b"1"), s3.delete_object(Bucket=versioned, Key=key)["VersionId"],
               put(s3, versioned, key, b"2"), s3.delete_object(Bucket=versioned, Key=key)["VersionId"]]
        made += [(kind, version) for kind, version in zip(("DeleteMarker", "Version") * 2, reversed(ids))]
    put(s3, versioned, "d/1", b"3")
    bodies = []
    s3.meta.events.register("before-parse.s3.ListObjectVersions",
                            lambda response_dict, **_: bodies.append(response_dict["body"].decode()))
    for size in (100, 5):
        bodies.clear()
        pages = list(s3.get_paginator("list_object_versions").paginate(
            Bucket=versioned, Delimiter="/", PaginationConfig={"PageSize": size}))
        assert [c["Prefix"] for page in pages for c in page.get("CommonPrefixes", [])] == ["d/"]
        shown = [entry for body in bodies for entry in re.findall(
            r"<(Version|DeleteMarker)>.*?<VersionId>(\w+)</VersionId>.*?</\1>", body)]
        assert shown == made


def test_versions_survive_a_kill(fresh_server):
    server = fresh_server
    client = server.client("s3")
    client.create_bucket(Bucket="kept")
    client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    first, second = put(client, "kept", "k", b"x" * MIB), put(client, "kept", "k", b"2")
    marker = client.delete_object(Bucket="kept", Key="k")["VersionId"]
    server.kill()
    server.start()
    client = server.client("s3")
    assert listed(client, "kept") == ([("k", second, False), ("k", first, False)], [("k", marker, True)])
    assert read(client, "kept", "k", first) == b"x" * MIB

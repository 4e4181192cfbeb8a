"""What is configured of S3 buckets through boto3: lifecycle, CORS, policy, encryption and the rest."""

import datetime
import json
import time

import pytest

from test_s3 import bucket, fetch, refused, s3  # noqa: F401

RULE = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}


def lifecycle(*rules):
    return {"Rules": list(rules)}


# Lifecycle


def test_a_lifecycle_is_kept_as_it_was_put(s3, bucket):  # noqa: F811
    assert refused(s3.get_bucket_lifecycle_configuration, Bucket=bucket)[:2] == ("NoSuchLifecycleConfiguration", 404)
    midnight = datetime.datetime(2050, 1, 1, tzinfo=datetime.timezone.utc)
    tag = {"Key": "a", "Value": "b"}
    rules = [
        RULE,
        {"ID": "all", "Status": "Disabled", "Filter": {}, "Expiration": {"Date": midnight}},
        {"ID": "old", "Status": "Enabled", "Prefix": "logs/", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
        {"ID": "tag", "Status": "Enabled", "Filter": {"Tag": tag}, "Expiration": {"Days": 3}},
        {"ID": "size", "Status": "Enabled", "Filter": {"ObjectSizeLessThan": 100}, "Expiration": {"Days": 3}},
        {"ID": "and", "Status": "Enabled",
         "Filter": {"And": {"Prefix": "p", "Tags": [tag], "ObjectSizeGreaterThan": 1, "ObjectSizeLessThan": 9}},
         "NoncurrentVersionExpiration": {"NoncurrentDays": 5, "NewerNoncurrentVersions": 2}},
        {"ID": "markers", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
    ]
    put = s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle(*rules))
    assert put["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    got = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert got["Rules"] == rules
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration=lifecycle({k: v for k, v in RULE.items() if k != "ID"}),
        TransitionDefaultMinimumObjectSize="varies_by_storage_class")
    got = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert got["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class" and got["Rules"][0]["ID"]
    s3.delete_bucket_lifecycle(Bucket=bucket)
    assert refused(s3.get_bucket_lifecycle_configuration, Bucket=bucket)[0] == "NoSuchLifecycleConfiguration"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Expiration": {"Days": 0}}, "InvalidArgument"),
        ({"Expiration": {"Date": datetime.datetime(2030, 1, 1, 12)}}, "InvalidArgument"),
        ({"Expiration": {}}, "MalformedXML"),
        ({"ID": "x" * 256}, "InvalidArgument"),
        ({"Status": "On"}, "MalformedXML"),
        ({"Expiration": None}, "InvalidRequest"),
        ({"Filter": None}, "MalformedXML"),
        ({"Filter": {"Prefix": "a", "ObjectSizeGreaterThan": 1}}, "MalformedXML"),
        ({"Expiration": None, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, "NotImplemented"),
        ({"NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "GLACIER"}]}, "NotImplemented"),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}, "Filter": {"Tag": {"Key": "a", "Value": "b"}}}, "InvalidRequest"),
    ],
)
def test_rules_that_aws_refuses_are_refused(s3, bucket, change, code):  # noqa: F811
    rule = {name: value for name, value in {**RULE, **change}.items() if value is not None}
    got = refused(s3.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration=lifecycle(rule))
    assert got[0] == code, got
    assert refused(s3.get_bucket_lifecycle_configuration, Bucket=bucket)[0] == "NoSuchLifecycleConfiguration"


def test_a_thousand_rules_are_kept_and_one_more_is_refused(s3, bucket):  # noqa: F811
    rules = [{**RULE, "ID": str(n), "Filter": {"Prefix": f"{n}/" + "p" * 200}} for n in range(1001)]
    put = s3.put_bucket_lifecycle_configuration
    put(Bucket=bucket, LifecycleConfiguration=lifecycle(*rules[:1000]))
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules[:1000]
    assert refused(put, Bucket=bucket, LifecycleConfiguration=lifecycle(*rules))[0] == "MalformedXML"
    same = lifecycle(RULE, RULE)
    assert refused(put, Bucket=bucket, LifecycleConfiguration=same)[0] == "InvalidArgument"


def test_objects_say_when_they_expire(s3, bucket):  # noqa: F811
    rule = {**RULE, "ID": "a b", "Filter": {"Prefix": "temporary/"}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle(rule))
    put = s3.put_object(Bucket=bucket, Key="temporary/k", Body=b"x")
    head = s3.head_object(Bucket=bucket, Key="temporary/k")
    assert put["Expiration"] == head["Expiration"] == s3.get_object(Bucket=bucket, Key="temporary/k")["Expiration"]
    assert put["Expiration"].endswith('00:00:00 GMT", rule-id="a%20b"')
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="kept", Body=b"x")


def test_what_has_expired_goes_by_itself(s3, bucket):  # noqa: F811
    for n in range(3):
        s3.put_object(Bucket=bucket, Key=f"old/{n}", Body=b"x")
    s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    past = {"Date": datetime.datetime(2020, 1, 1)}
    rule = {**RULE, "Filter": {"Prefix": "old/"}, "Expiration": past}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle(rule))
    deadline = time.monotonic() + 180
    while s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["kept"]


# CORS


def test_cors_is_kept_and_answers_browsers(lake_server, s3, bucket):  # noqa: F811
    rules = [
        {"ID": "one", "AllowedOrigins": ["https://*.example.com"], "AllowedMethods": ["GET", "PUT"],
         "AllowedHeaders": ["x-amz-*", "content-type"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 300},
        {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"]},
    ]
    assert refused(s3.get_bucket_cors, Bucket=bucket)[:2] == ("NoSuchCORSConfiguration", 404)
    url = f"{lake_server.endpoint}/{bucket}/k"

    def ask(origin, method, headers=None):
        sent = {"Origin": origin, "Access-Control-Request-Method": method}
        if headers:
            sent["Access-Control-Request-Headers"] = headers
        return fetch(url, "OPTIONS", headers=sent)

    assert ask("https://a.example.com", "GET")[0] == 403
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    status, headers, body = ask("https://a.example.com", "PUT", "X-Amz-Date, Content-Type")
    assert (status, body) == (200, b"")
    assert headers["access-control-allow-origin"] == "https://a.example.com"
    assert headers["access-control-allow-methods"] == "GET, PUT"
    assert headers["access-control-allow-headers"] == "x-amz-date, content-type"
    assert headers["access-control-expose-headers"] == "ETag"
    assert headers["access-control-max-age"] == "300"
    assert headers["access-control-allow-credentials"] == "true"
    assert "Origin" in headers["vary"]
    assert ask("https://elsewhere.org", "HEAD")[1]["access-control-allow-origin"] == "*"
    for refusal in (("https://elsewhere.org", "GET"), ("https://a.example.com", "DELETE"),
                    ("https://a.example.com", "PUT", "authorization")):
        status, _, body = ask(*refusal)
        assert status == 403 and b"AccessForbidden" in body, refusal
    assert fetch(url, "OPTIONS")[0] == 400
    assert ask("https://a.example.com", "TRACE")[0] == 400

    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    signed = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
    status, headers, body = fetch(signed, headers={"Origin": "https://a.example.com"})
    assert (status, body, headers["access-control-allow-origin"]) == (200, b"x", "https://a.example.com")
    assert "access-control-allow-origin" not in fetch(signed, headers={"Origin": "https://elsewhere.org"})[1]
    assert fetch(url, headers={"Origin": "https://a.example.com"})[0] == 403, "a call without a signature stays refused"
    s3.delete_bucket_cors(Bucket=bucket)
    assert ask("https://a.example.com", "GET")[0] == 403


@pytest.mark.parametrize(
    ("change", "code"),
    [({"AllowedMethods": ["PATCH"]}, "InvalidRequest"), ({"AllowedOrigins": ["http://*.a.*"]}, "InvalidRequest"),
     ({"AllowedHeaders": ["*-*"]}, "InvalidRequest"), ({"ExposeHeaders": ["x-*"]}, "InvalidRequest"),
     ({"ID": "x" * 256}, "InvalidRequest"), ({"AllowedMethods": []}, "MalformedXML")],
)
def test_cors_rules_that_aws_refuses_are_refused(s3, bucket, change, code):  # noqa: F811
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], **change}
    assert refused(s3.put_bucket_cors, Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})[0] == code


# Policy


def policy(bucket, effect="Allow", principal=None, **more):  # noqa: F811
    statement = {"Effect": effect, "Principal": principal or {"AWS": "arn:aws:iam::000000000000:root"},
                 "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_policy_is_kept_and_one_that_denies_is_refused(s3, bucket):  # noqa: F811
    assert refused(s3.get_bucket_policy, Bucket=bucket)[:2] == ("NoSuchBucketPolicy", 404)
    assert refused(s3.get_bucket_policy_status, Bucket=bucket)[0] == "NoSuchBucketPolicy"
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]) == json.loads(policy(bucket))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    put = s3.put_bucket_policy
    code, status, message = refused(put, Bucket=bucket, Policy=policy(bucket, effect="Deny"))
    assert (code, status) == ("NotImplemented", 501) and "Deny" in message
    assert refused(put, Bucket=bucket, Policy="{")[0] == "MalformedPolicy"
    assert refused(put, Bucket=bucket, Policy=policy("another-" + bucket))[0] == "MalformedPolicy"
    code, _, message = refused(put, Bucket=bucket, Policy=policy(bucket).replace("s3:GetObject", "sqs:SendMessage"))
    assert code == "MalformedPolicy" and "action" in message
    assert refused(put, Bucket=bucket, Policy=policy(bucket, principal="*"))[:2] == ("AccessDenied", 403)
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, principal="*"))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    s3.delete_bucket_policy(Bucket=bucket)
    assert refused(s3.get_bucket_policy, Bucket=bucket)[0] == "NoSuchBucketPolicy"


# Encryption, access, ownership


def test_sse_s3_is_kept_as_configuration_and_kms_is_refused_by_name(s3, bucket):  # noqa: F811
    def rules():
        return s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]

    def put(**by_default):
        return {"Bucket": bucket, "ServerSideEncryptionConfiguration": {
            "Rules": [{"ApplyServerSideEncryptionByDefault": by_default, "BucketKeyEnabled": True}]}}

    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    assert rules() == [default]
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    asked = s3.put_object(Bucket=bucket, Key="asked", Body=b"x", ServerSideEncryption="AES256")
    assert asked["ServerSideEncryption"] == s3.head_object(Bucket=bucket, Key="asked")["ServerSideEncryption"] == "AES256"
    s3.put_bucket_encryption(**put(SSEAlgorithm="AES256"))
    assert rules() == [{**default, "BucketKeyEnabled": True}]
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ServerSideEncryption"] == "AES256"
    assert s3.get_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "AES256"
    for algorithm in ("aws:kms", "aws:kms:dsse"):
        code, status, message = refused(s3.put_bucket_encryption, **put(SSEAlgorithm=algorithm))
        assert (code, status) == ("NotImplemented", 501) and algorithm in message
    s3.delete_bucket_encryption(Bucket=bucket)
    assert rules() == [default]


def test_the_public_access_block_is_kept(s3, bucket):  # noqa: F811
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

    def got():
        return s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]

    assert got() == dict.fromkeys(names, True)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    assert got() == {**dict.fromkeys(names, False), "BlockPublicAcls": True}
    s3.delete_public_access_block(Bucket=bucket)
    assert refused(s3.get_public_access_block, Bucket=bucket)[:2] == ("NoSuchPublicAccessBlockConfiguration", 404)


def test_the_owner_is_enforced(s3, bucket):  # noqa: F811
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == enforced
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=enforced)
    other = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    code, _, message = refused(s3.put_bucket_ownership_controls, Bucket=bucket, OwnershipControls=other)
    assert code == "NotImplemented" and "ObjectWriter" in message
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for acl in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")):
        grant = {"Grantee": {"ID": acl["Owner"]["ID"], "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}
        assert acl["Grants"] == [grant]
    assert refused(s3.get_object_acl, Bucket=bucket, Key="none")[0] == "NoSuchKey"
    for call, more in ((s3.put_bucket_acl, {}), (s3.put_object_acl, {"Key": "k"})):
        for acl in ("private", "public-read"):
            got = refused(call, Bucket=bucket, ACL=acl, **more)
            assert got[:2] == ("AccessControlListNotSupported", 400)


# What a bucket that never had it answers

UNSET = [
    ("get_bucket_website", {}, "NoSuchWebsiteConfiguration"),
    ("get_bucket_replication", {}, "ReplicationConfigurationNotFoundError"),
    ("get_object_lock_configuration", {}, "ObjectLockConfigurationNotFoundError"),
    ("get_bucket_analytics_configuration", {"Id": "x"}, "NoSuchConfiguration"),
    ("get_bucket_inventory_configuration", {"Id": "x"}, "NoSuchConfiguration"),
    ("get_bucket_metrics_configuration", {"Id": "x"}, "NoSuchConfiguration"),
    ("get_bucket_intelligent_tiering_configuration", {"Id": "x"}, "NoSuchConfiguration"),
]


@pytest.mark.parametrize(("operation", "arguments", "code"), UNSET)
def test_what_is_not_set_is_not_there(s3, bucket, operation, arguments, code):  # noqa: F811
    assert refused(getattr(s3, operation), Bucket=bucket, **arguments)[:2] == (code, 404)
    absent = {"Bucket": "absent-" + bucket, **arguments}
    assert refused(getattr(s3, operation), **absent)[0] == "NoSuchBucket"


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("get_bucket_accelerate_configuration", {}),
        ("get_bucket_logging", {}),
        ("get_bucket_notification_configuration", {}),
        ("get_bucket_request_payment", {"Payer": "BucketOwner"}),
        ("list_bucket_analytics_configurations", {"IsTruncated": False}),
        ("list_bucket_inventory_configurations", {"IsTruncated": False}),
        ("list_bucket_metrics_configurations", {"IsTruncated": False}),
        ("list_bucket_intelligent_tiering_configurations", {"IsTruncated": False}),
    ],
)
def test_what_has_a_default_shows_it(s3, bucket, operation, answer):  # noqa: F811
    got = getattr(s3, operation)(Bucket=bucket)
    del got["ResponseMetadata"]
    assert got == answer


def test_defaults_are_taken_and_what_would_have_an_effect_is_refused_by_name(s3, bucket):  # noqa: F811
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    queue = {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:us-east-1:000000000000:q", "Events": ["s3:ObjectCreated:*"]}]}
    for call, arguments, name in [
        (s3.put_bucket_notification_configuration, {"NotificationConfiguration": queue}, "QueueConfiguration"),
        (s3.put_bucket_notification_configuration,
         {"NotificationConfiguration": {"EventBridgeConfiguration": {}}}, "EventBridgeConfiguration"),
        (s3.put_bucket_logging,
         {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": bucket, "TargetPrefix": "x"}}}, "LoggingEnabled"),
        (s3.put_bucket_request_payment, {"RequestPaymentConfiguration": {"Payer": "Requester"}}, "Requester"),
        (s3.put_bucket_accelerate_configuration, {"AccelerateConfiguration": {"Status": "Enabled"}},
         "PutBucketAccelerateConfiguration"),
        (s3.put_bucket_website, {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "i"}}}, "PutBucketWebsite"),
        (s3.delete_bucket_ownership_controls, {}, "DeleteBucketOwnershipControls"),
    ]:
        code, status, message = refused(call, Bucket=bucket, **arguments)
        assert (code, status) == ("NotImplemented", 501) and name in message, (name, message)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for operation in ("get_object_retention", "get_object_legal_hold"):
        assert refused(getattr(s3, operation), Bucket=bucket, Key="k")[0] == "InvalidRequest"


def test_configurations_go_with_their_bucket(s3, bucket):  # noqa: F811
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle(RULE))
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert refused(s3.get_bucket_tagging, Bucket=bucket)[0] == "NoSuchTagSet"
    assert refused(s3.get_bucket_lifecycle_configuration, Bucket=bucket)[0] == "NoSuchLifecycleConfiguration"
    assert refused(s3.get_bucket_policy, Bucket=bucket)[0] == "NoSuchBucketPolicy"


def test_configurations_outlive_a_kill(fresh_server):
    client = fresh_server.client("s3")
    client.create_bucket(Bucket="kept")
    client.put_bucket_tagging(Bucket="kept", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    client.put_bucket_lifecycle_configuration(Bucket="kept", LifecycleConfiguration=lifecycle(RULE))
    client.put_bucket_cors(
        Bucket="kept", CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}]})
    fresh_server.kill()
    fresh_server.start()
    client = fresh_server.client("s3")
    assert client.get_bucket_tagging(Bucket="kept")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert client.get_bucket_lifecycle_configuration(Bucket="kept")["Rules"] == [RULE]
    assert client.get_bucket_cors(Bucket="kept")["CORSRules"][0]["AllowedMethods"] == ["GET"]

// What a test of the server does with the AWS SDK for Java: CBOR both ways (its default for Kinesis), and
// SubscribeToShard over HTTP/2 with prior knowledge. Prints one line a step; any difference ends with an exception.
//
//   java -cp 'DIRECTORY OF JARS/*' KinesisCheck.java ENDPOINT STREAM

import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.kinesis.model.StartingPosition;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEvent;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEventStream;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardRequest;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardResponseHandler;

public class KinesisCheck {
    public static void main(String[] arguments) throws Exception {
        URI endpoint = URI.create(arguments[0]);
        String stream = arguments[1];
        try (KinesisClient client = KinesisClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).build();
                KinesisAsyncClient async =
                        KinesisAsyncClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).build()) {
            client.createStream(r -> r.streamName(stream).shardCount(1));
            var summary = client.describeStreamSummary(r -> r.streamName(stream)).streamDescriptionSummary();
            Duration age = Duration.between(summary.streamCreationTimestamp(), Instant.now()).abs();
            check(age.compareTo(Duration.ofMinutes(2)) < 0, "created " + summary.streamCreationTimestamp());
            List<PutRecordsRequestEntry> entries = new ArrayList<>();
            for (int n = 0; n < 20; n++) {
                byte[] data = {(byte) n, 0, (byte) 255};
                entries.add(PutRecordsRequestEntry.builder()
                        .data(SdkBytes.fromByteArray(data)).partitionKey("k é " + n).build());
            }
            var put = client.putRecords(r -> r.streamName(stream).records(entries));
            check(put.failedRecordCount() == 0 && put.records().size() == 20, "put " + put);
            String iterator = client.getShardIterator(r -> r.streamName(stream).shardId("shardId-000000000000")
                    .shardIteratorType(ShardIteratorType.AT_TIMESTAMP).timestamp(Instant.EPOCH)).shardIterator();
            List<Record> records = client.getRecords(r -> r.shardIterator(iterator)).records();
            check(records.size() == 20, "read " + records.size());
            for (int n = 0; n < 20; n++) {
                Record record = records.get(n);
                check(record.data().asByteArray()[0] == n && record.partitionKey().equals("k é " + n), "record " + n);
                check(record.sequenceNumber().equals(put.records().get(n).sequenceNumber()), "sequence " + n);
                Duration old = Duration.between(record.approximateArrivalTimestamp(), Instant.now()).abs();
                check(old.compareTo(Duration.ofMinutes(2)) < 0, "arrived " + record.approximateArrivalTimestamp());
            }
            System.out.println("records");
            try {
                client.describeStream(r -> r.streamName("absent"));
                check(false, "an absent stream was described");
            } catch (ResourceNotFoundException refused) {
                check(refused.getMessage().contains("absent") && refused.requestId() != null, refused.toString());
            }
            System.out.println("refusals");
            subscribe(client, async, stream, summary.streamARN());
            System.out.println("events");
        }
    }

    private static void subscribe(KinesisClient client, KinesisAsyncClient async, String stream, String arn)
            throws Exception {
        String consumer = client.registerStreamConsumer(r -> r.streamARN(arn).consumerName("java")).consumer().consumerARN();
        var arrived = new LinkedBlockingQueue<Record>();
        var handler = SubscribeToShardResponseHandler.builder()
                .subscriber((SubscribeToShardEventStream event) -> {
                    if (event instanceof SubscribeToShardEvent records) {
                        arrived.addAll(records.records());
                    }
                })
                .build();
        var request = SubscribeToShardRequest.builder().consumerARN(consumer).shardId("shardId-000000000000")
                .startingPosition(StartingPosition.builder().type(ShardIteratorType.LATEST).build()).build();
        CompletableFuture<Void> subscription = async.subscribeToShard(request, handler);
        for (int n = 0; n < 5; n++) {
            SdkBytes data = SdkBytes.fromUtf8String("event " + n);
            // The first may be put before the subscription has begun: until it arrives, again.
            Record record = null;
            while (record == null) {
                client.putRecord(r -> r.streamName(stream).partitionKey("k").data(data));
                record = arrived.poll(n == 0 ? 1 : 60, TimeUnit.SECONDS);
                check(!subscription.isDone(), "the subscription ended");
            }
            while (n == 0 && arrived.poll(2, TimeUnit.SECONDS) != null) {}
            check(record.data().equals(data), "event " + n + " is " + record);
        }
        subscription.cancel(true);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }
}

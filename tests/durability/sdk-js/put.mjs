// Puts numbered records through the JavaScript SDK, which retries by itself; prints how many it sent.
import { FirehoseClient, PutRecordBatchCommand, PutRecordCommand } from "@aws-sdk/client-firehose";

const [stream, calls] = [process.argv[2], Number(process.argv[3])];
const client = new FirehoseClient({ maxAttempts: 10 });
const record = (id) => ({ Data: Buffer.from(JSON.stringify({ id, name: "js", value: id % 1000 })) });

let next = 0;
for (let call = 0; call < calls; call++) {
  const count = 1 + (call % 5);
  const records = Array.from({ length: count }, () => record(next++));
  if (count === 1) {
    await client.send(new PutRecordCommand({ DeliveryStreamName: stream, Record: records[0] }));
    continue;
  }
  const answer = await client.send(
    new PutRecordBatchCommand({ DeliveryStreamName: stream, Records: records }),
  );
  if (answer.FailedPutCount !== 0) throw new Error(JSON.stringify(answer));
}
console.log(JSON.stringify({ sent: next }));

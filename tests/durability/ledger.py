"""A ledger of what was acknowledged, and the comparison with what is in the table.

Every record carries a number that is sent once. A number whose call was acknowledged must be in the
table exactly once; a number whose call failed may be there once or not at all; none may be there twice.
"""

import collections
import json
import random
import threading

from botocore.exceptions import BotoCoreError, ClientError

FIELDS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "name", "type": "string"},
    {"name": "value", "type": "int"},
]


class Ledger:
    """Numbers sent, and which of them were acknowledged. Safe to use from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._next = 0
        self.sent = 0
        self.acknowledged = set()
        self.changed = threading.Condition(self._lock)

    def take(self, count):
        with self._lock:
            first = self._next
            self._next += count
            self.sent = self._next
            return range(first, first + count)

    def acknowledge(self, numbers):
        with self.changed:
            self.acknowledged.update(numbers)
            self.changed.notify_all()

    def wait_for(self, count, timeout_s=60):
        """Waits until `count` more numbers are acknowledged than now."""
        with self.changed:
            goal = len(self.acknowledged) + count
            return self.changed.wait_for(lambda: len(self.acknowledged) >= goal, timeout_s)

    def compare(self, numbers):
        """Raises unless `numbers` (all ids read from the table) agree with this ledger."""
        counts = collections.Counter(numbers)
        twice = sorted(n for n, times in counts.items() if times > 1)
        lost = sorted(self.acknowledged - counts.keys())
        strange = sorted(n for n in counts if not 0 <= n < self.sent)
        assert not lost, f"{len(lost)} acknowledged records are not in the table, first {lost[:10]}"
        assert not twice, f"{len(twice)} records are in the table more than once, first {twice[:10]}"
        assert not strange, f"records that were never sent: {strange[:10]}"
        return len(counts)


def record(number, pad=80):
    return json.dumps({"id": number, "name": "n" * pad, "value": number % 1000}).encode()


class Load(threading.Thread):
    """Sends batches until stopped; a call that fails ends in neither list."""

    def __init__(self, client, stream, ledger, seed, batch_max=200):
        super().__init__(daemon=True)
        self.client, self.stream, self.ledger = client, stream, ledger
        self.random = random.Random(seed)
        self.batch_max = batch_max
        self.stopping = threading.Event()
        self.failures = 0

    def run(self):
        while not self.stopping.is_set():
            count = self.random.choice([1, 2, 10, self.batch_max])
            numbers = list(self.ledger.take(count))
            try:
                self.send(numbers)
            except (ClientError, BotoCoreError, OSError):
                self.failures += 1
                self.stopping.wait(0.02)

    def send(self, numbers):
        if len(numbers) == 1:
            self.client.put_record(DeliveryStreamName=self.stream, Record={"Data": record(numbers[0])})
            self.ledger.acknowledge(numbers)
            return
        answer = self.client.put_record_batch(
            DeliveryStreamName=self.stream, Records=[{"Data": record(n)} for n in numbers]
        )
        self.ledger.acknowledge(
            n for n, each in zip(numbers, answer["RequestResponses"], strict=True) if "RecordId" in each
        )

    def stop(self):
        self.stopping.set()
        self.join()

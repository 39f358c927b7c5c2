"""Listen to a run with pyzmq and msgpack alone: python tap_plain.py tcp://127.0.0.1:7742 Recorded."""

import struct
import sys

import msgpack
import zmq

endpoint, topics = sys.argv[1], sys.argv[2:]
context = zmq.Context()
door = context.socket(zmq.DEALER)
door.connect(endpoint)
door.send(b"describe")
ports = msgpack.unpackb(door.recv_multipart()[1])["fields"]
tap = context.socket(zmq.SUB)
tap.rcvhwm = 1000
for topic in [*(topic + "." for topic in topics), "end."]:
    tap.subscribe(topic)
for port in filter(None, (ports["facts_port"], ports["images_port"])):
    tap.connect(f"{endpoint.rpartition(':')[0]}:{port}")
door.send(b"state")
while (fact := msgpack.unpackb(door.recv_multipart()[1]))["kind"] != "StateSent":
    if fact["kind"] in topics:
        print("before", fact["kind"], fact["fields"], flush=True)
print("now", flush=True)
counts = {}
while (message := tap.recv_multipart())[0] != b"end.":
    topic, (number, count, dropped) = message[0], struct.unpack(">QQQ", message[1])
    lost = count - counts.get(topic, count - 1) - 1
    counts[topic] = count
    header = msgpack.unpackb(message[2])
    sizes = [len(frame) for frame in message[3:]]  # of the arrays that header["arrays"] describes
    print(number, header["kind"], header["fields"], sizes, f"lost {lost}", flush=True)
context.destroy(linger=0)

"""Joins with Python alone: walks in a circle, or follows somebody. python3 plain.py [HOST [PORT [NAME TO FOLLOW]]]"""
import math, select, socket, sys, time
host, port, follow = sys.argv[1:4] + ["localhost", "14900", ""][len(sys.argv[1:4]):]
cubes, own, sent = {}, None, None  # cubes: id -> [cell, name, pose]; a pose is x, y, z in metres and the bytes of a rotation
sys.excepthook = lambda kind, problem, _: print(f"{kind.__name__}: {problem}", file=sys.stderr)
def varint(n):
    size = 1 if n < 1 << 16 else 2 if n < 1 << 32 else 3
    return bytes([n]) if n < 251 else bytes([250 + size]) + n.to_bytes(1 << size, "little")
def zigzag(n): return varint(n * 2 if n >= 0 else -n * 2 - 1)
def send(message): server.sendall(len(message).to_bytes(4, "big") + message)

class Message:
    def __init__(self, data): self.data, self.at = data, 0
    def take(self, size):
        self.at += size
        if self.at <= len(self.data): return self.data[self.at - size:self.at]
        raise ValueError("a message is too short")
    def number(self, end=1 << 64):
        first = self.take(1)[0]
        n = first if first < 251 else int.from_bytes(self.take(1 << first - 250), "little")
        if n >= end or varint(n)[0] != first: raise ValueError(f"{n} cannot stand there")
        return n
    def list(self, read): return [read() for _ in range(self.number(1 << 20))]
    def text(self): return self.take(self.number()).decode()
    def pose(self): return [(lambda n: n >> 1 ^ -(n & 1))(self.number()) / 512 for _ in "xyz"] + [self.take(4)]
    def kind(self): return self.number(3) == 1 and self.number(2) and self.number()  # Of a free cube: its holder.
    def cube(self): return self.number(), self.kind(), self.text(), self.take(4), self.pose()  # (4: colour and width)
def forget(cells, which):
    for cube in [cube for cube in which if cube in cubes and cubes[cube][0] in cells]: del cubes[cube]

def handle(message):
    global own
    kind = message.number(12)
    if kind == 0 and own is None: own = (message.number(), message.text(), message.text(), message.number())[3]  # Welcome
    elif kind == 0: sys.exit("the room goes on at another server: join again")
    elif kind in (1, 9): message.number(), sys.exit(message.text())  # Reject, Closing
    elif kind == 5: forget(message.list(message.number), cubes)  # OutOfSight
    elif kind == 11:  # PlainSnapshot
        cell, _, is_whole = message.number(), message.number(), message.number(2)
        forget([cell], cubes if is_whole else [])
        cubes.update({cube: [cell, name, pose] for cube, _, name, _, pose in message.list(message.cube)})
        forget([cell], message.list(message.number))
        for cube, pose in message.list(lambda: (message.number(), message.pose())): cubes[cube][2] = pose
        if message.at < len(message.data): raise ValueError("a message is too long")
server, received, size, pinged = socket.create_connection((host, int(port)), 5), b"", 0, time.monotonic()
send(b"\0CUBE\5\5lobby\6Python" + bytes([255, 200, 60]) + b"\0\0\0\1")  # Hello; a text follows its length
while True:
    if select.select([server], [], [], 0.03)[0]: received += server.recv(1 << 16) or sys.exit("the server has closed")
    while len(received) > 3 and len(received) > 3 + (size := int.from_bytes(received[:4], "big")) or size > 1 << 20:
        if size > 1 << 20: sys.exit("the server sent something impossible: a message is too long")
        received = handle(Message(received[4:4 + size])) or received[4 + size:]
    now = time.monotonic()
    if now > pinged + 2:
        pinged = send(b"\4\0") or now  # Ping
        print(*["%s (%.1f, %.1f, %.1f) " % (name, *pose[:3]) for _, name, pose in cubes.values() if name])
    circle = [3 * math.cos(now), 3 * math.sin(now), 0.5, b"\xff\xfd\xf7\xdf"]
    target = next((pose for _, name, pose in cubes.values() if name == follow), None) if follow else circle
    if own in cubes and target and target != sent:
        position = b"".join(zigzag(round(metres * 512)) for metres in target[:3])
        sent = send(b"\1\0\1" + varint(own) + position + target[3] + b"\0") or target  # Sample: tick 0, one cube

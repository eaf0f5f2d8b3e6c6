"""What rooms do, against real servers."""

import gc
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Tuple, Type

import numpy

import cubesync
from support import FRAME_S, SERVER, TOO_LONG_S, Case

UPRIGHT = (0.0, 0.0, 0.0, 1.0)


class Playing(Case):
    def test_a_player_joins_and_is_told_so_in_words(self) -> None:
        server = self.server()
        room = self.room(server.address, name="Anna", colour="#102030")
        self.assertEqual((room.status.state, room.own, room.cubes), ("connecting", None, []))
        event = self.event(cubesync.Connected, room)
        self.assertEqual((event.room, event.name, event.is_new, event.max_speed), ("lobby", "Anna", True, 40.0))
        self.assertEqual(str(event), f"joined room lobby as Anna (cube {event.cube})")
        status = room.status
        self.assertEqual((status.state, status.address, status.players), ("joined", server.address, 1))
        self.assertEqual(str(status), f"in room lobby as Anna at {server.address}")
        own = room.own
        assert own
        self.assertEqual((own.id, own.name, own.kind, own.holder), (event.cube, "Anna", "player", None))
        self.assertEqual((own.colour, own.width, own.position), ((16, 32, 48), 1.0, event.position))
        self.assertTrue(own.is_own and not own.is_stale)
        self.assertIn(f"<cubesync.Cube {own.id}: player \"Anna\" at (", repr(own))
        self.until(lambda _: room.status.ping_ms is not None, room)

    def test_a_link_names_the_server_and_the_room(self) -> None:
        link = "http://127.0.0.1:8080/?room=den"
        self.assertEqual(self.room(link).status.address, "127.0.0.1:14900")
        with self.assertRaisesRegex(ValueError, "the link leads to the room \"den\", not to \"attic\""):
            cubesync.join(link, room="attic")

    def test_others_see_a_cube_move_and_turn(self) -> None:
        anna, bea = self.joined(self.server("--cubes", "0").address, "Anna", "Bea")
        quarter = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))
        anna.move([4.0, -2.5, 0.5], numpy.array(quarter, "f4"))
        own = anna.own
        assert own
        self.assertEqual(own.position, (4.0, -2.5, 0.5))

        def is_there(_: object) -> bool:
            seen = next(cube for cube in bea.cubes if cube.name == "Anna")
            is_turned = all(abs(is_so - wanted) < 0.01 for is_so, wanted in zip(seen.rotation, quarter))
            return is_turned and math.dist(seen.position, (4.0, -2.5, 0.5)) < 0.01

        self.until(is_there, anna, bea)
        newest = bea.newest(own)
        assert newest
        self.assertEqual(newest[0], (4.0, -2.5, 0.5))
        self.assertIsNone(bea.newest(2**52))

    def test_a_position_outside_the_world_becomes_the_nearest_inside(self) -> None:
        anna = self.room(self.server("--max-speed", "0").address)
        self.assertIsNone(self.event(cubesync.Connected, anna).max_speed)
        for outside, inside in (((1e300, -1e9, -4.0), (256.0, -256.0, 0.0)), ((1.0, 2.0, 99.0), (1.0, 2.0, 32.0))):
            anna.move(outside)
            own = anna.own
            assert own
            self.assertEqual(own.position, inside)

    def test_a_cube_that_is_too_fast_is_put_back(self) -> None:
        room = self.room(self.server("--max-speed", "10").address)
        connected = self.event(cubesync.Connected, room)
        self.assertEqual(connected.max_speed, 10.0)
        room.move((200.0, 0.0, 0.5))
        corrected = self.event(cubesync.Corrected, room)
        own = room.own
        assert own
        self.assertEqual((corrected.cube, corrected.position), (connected.cube, connected.position))
        self.assertRegex(str(corrected), r"^the server put cube \d+ at \(-?\d+\.\d\d, ")

    def test_records_are_the_cubes(self) -> None:
        (room,) = self.joined(self.server().address, "Anna")
        dtype = numpy.dtype(cubesync.DTYPE)
        self.assertEqual({dtype.itemsize, struct.calcsize(cubesync.RECORD)}, {cubesync.RECORD_BYTES})
        free = next(cube for cube in room.cubes if cube.kind == "free")
        room.take(free)
        self.event(cubesync.Taken, room)
        buffer = bytearray(100 * cubesync.RECORD_BYTES)
        array = numpy.frombuffer(buffer, dtype)
        own = numpy.zeros(100, dtype)
        # Loose cubes may move between the calls, so only what does not is compared.
        count, cubes = room.fill(buffer), room.cubes
        self.assertEqual((room.fill(own.view("u1")), count), (61, len(cubes)))
        for record, same, cube in zip(array, own, cubes):
            self.assertEqual((record["id"], same["id"]), (cube.id, cube.id))
            self.assertEqual(record["holder"], -1 if cube.holder is None else cube.holder)
            self.assertEqual(cubesync.KINDS[record["kind"]], cube.kind)
            self.assertEqual((tuple(record["colour"]), record["width"]), (cube.colour, cube.width))
            self.assertEqual((record["is_own"], record["is_stale"]), (cube.is_own, cube.is_stale))
            self.assertLess(math.dist(record["position"], cube.position), 0.5)
            self.assertAlmostEqual(math.hypot(*record["rotation"]), 1.0, places=4)
        plain = list(struct.iter_unpack(cubesync.RECORD, bytes(buffer[: count * cubesync.RECORD_BYTES])))
        self.assertEqual([record[0] for record in plain], [cube.id for cube in cubes])
        for wrong, words in (
            (bytearray(61 * cubesync.RECORD_BYTES - 1), "61 cubes need 3416 bytes, and the buffer has 3415"),
            (bytes(9999), "read-only"),
            ("text", "bytes-like"),
        ):
            with self.assertRaisesRegex((ValueError, TypeError), words):
                room.fill(wrong)  # type: ignore[arg-type]

    def test_a_cube_is_taken_carried_and_released(self) -> None:
        anna, bea = self.joined(self.server("--cubes", "0").address, "Anna", "Bea")
        free = next(cube for cube in anna.cubes if cube.kind == "free")
        anna.take(free)
        taken = self.event(cubesync.Taken, anna)
        own, held = anna.own, anna.held
        assert own and held
        self.assertEqual((taken.cube, taken.by, taken.name, held.id, held.holder), (free.id, own.id, "Anna", free.id, own.id))
        self.assertEqual(str(taken), f"Anna took cube {free.id}")
        bea.take(free.id)
        refused = self.event(cubesync.Refused, anna, bea)
        self.assertEqual((refused.cube, refused.holder), (free.id, own.id))
        self.assertEqual(str(refused), f"Anna was faster to take cube {free.id}")
        self.assertIsNone(bea.held)

        def held_at() -> Any:
            assert anna.held
            return anna.held.position

        anna.move((3.0, 1.0, 0.5))
        self.assertLess(math.dist(held_at(), (4.1, 1.0, 0.5)), 0.01)
        anna.move((3.0, 3.0, 2.0), cube=held)
        anna.move((2.0, 1.0, 0.5))
        self.assertEqual(held_at(), (3.0, 3.0, 2.0))
        anna.release()
        self.assertIsNone(anna.held)
        freed = self.event(cubesync.Freed, anna, bea)
        self.assertEqual((freed.cube, str(freed)), (free.id, f"cube {free.id} is free"))
        # Nobody holds it, so it stays where it is.
        anna.move((9.0, 9.0, 0.5), cube=free)
        self.until(lambda _: math.dist(bea.newest(free)[0], (3.0, 3.0, 2.0)) < 0.01, anna, bea)  # type: ignore[index]

    def test_who_leaves_the_block_or_drops_the_room_leaves_no_ghost(self) -> None:
        server = self.server()
        (anna,) = self.joined(server.address, "Anna")
        with cubesync.join(server.address, name="Bea") as bea:
            self.event(cubesync.Joined, anna, bea)
        self.assertEqual(str(self.event(cubesync.Left, anna)), "Bea left")
        dropped = cubesync.join(server.address, name="Cem")
        self.event(cubesync.Joined, anna, dropped)
        del dropped
        self.assertEqual(self.event(cubesync.Left, anna).name, "Cem")


class Losing(Case):
    def test_a_server_that_dies_and_comes_back_is_joined_again(self) -> None:
        server = self.server()
        (room,) = self.joined(server.address, "Anna")
        server.kill()
        lost = self.event(cubesync.Lost, room)
        self.assertRegex(str(lost), "^connection lost: .+")
        self.until(lambda _: room.status.state == "waiting", room)
        self.assertRegex(room.status.text, r".; next try in \d\.\d s$")
        self.until(lambda _: room.status.text.startswith(f"no server runs at {server.address}; next try"), room)
        self.until(lambda _: all(cube.is_stale or cube.is_own for cube in room.cubes), room)
        self.server(listen=server.address)
        self.event(cubesync.Connected, room)
        self.assertEqual(room.status.state, "joined")

    def test_the_same_cube_goes_on_after_the_connection_was_cut(self) -> None:
        line = Line(self, self.server().address)
        (room,) = self.joined(line.address, "Anna")
        before = room.own
        room.move((5.0, 5.0, 0.5))
        line.cut()
        events = self.until(lambda events: any(isinstance(event, cubesync.Connected) for event in events), room)
        self.assertEqual([type(event) for event in events], [cubesync.Lost, cubesync.Connected])
        again = events[1]
        assert isinstance(again, cubesync.Connected) and before
        self.assertEqual((again.cube, again.is_new, str(again)), (before.id, False, "connected again"))
        self.assertEqual(again.position, (5.0, 5.0, 0.5))

    def test_a_server_that_is_not_there_is_a_status(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        room = self.room(f"127.0.0.1:{port}")
        self.until(lambda _: room.status.state == "waiting", room)
        self.assertRegex(room.status.text, f"^no server runs at 127.0.0.1:{port}; next try in")
        room.move((1.0, 2.0, 3.0))
        room.take(7)
        room.release()
        self.assertEqual((room.own, room.held, room.cubes, room.fill(bytearray())), (None, None, [], 0))
        elsewhere = self.room("no-such-host.invalid")
        self.until(lambda _: elsewhere.status.state == "waiting", elsewhere)
        self.assertIn("no-such-host.invalid was not found", elsewhere.status.text)

    def test_a_server_that_says_nothing_holds_nobody_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            room = self.room("127.0.0.1:{}".format(silent.getsockname()[1]))
            self.until(lambda _: room.status.text == "joining", room)
            self.assertEqual((room.status.state, room.poll()), ("connecting", []))

    def test_a_wrong_key_ends_it_with_words(self) -> None:
        server = self.server("--join-key", "open sesame")
        for key in (None, "open says me"):
            room = self.room(server.address, key=key)
            with self.assertRaisesRegex(cubesync.Ended, "key"):
                self.until(lambda _: False, room)
            with self.assertRaisesRegex(cubesync.Error, "key"):
                room.poll()
            self.assertEqual(room.status.state, "ended")
            self.assertIn("key", room.status.text)
        room = self.room(server.address, key="open sesame")
        self.event(cubesync.Connected, room)

    def test_who_is_kicked_is_told_why(self) -> None:
        control = str(self.folder() / "control")
        (room,) = self.joined(self.server("--control", control).address, "Anna")
        kick = [str(SERVER), "kick", "Anna", "--reason", "be kind", "--control", control]
        subprocess.run(kick, check=True, stdout=subprocess.DEVNULL)
        self.assertIn("be kind", str(self.event(cubesync.Lost, room)))
        with self.assertRaisesRegex(cubesync.Ended, "be kind"):
            room.poll()

    def test_an_encrypted_server_is_joined_with_its_certificate(self) -> None:
        folder = self.folder()
        certificate = folder / "cert.pem"
        server = self.server("--tls-self-signed", "--tls-cert", str(certificate), "--tls-key", str(folder / "key.pem"))
        self.assertRegex(server.address, "^tls://")
        room = self.room(server.address, ca=certificate)
        self.event(cubesync.Connected, room)
        bare = server.address[len("tls://") :]
        room = self.room(bare, tls=True, ca=str(certificate), datagrams=False)
        self.event(cubesync.Connected, room)
        room = self.room(bare, tls=True, insecure=True)
        self.event(cubesync.Connected, room)
        room = self.room(server.address)
        self.until(lambda _: room.status.state == "waiting", room)
        self.assertIn("certificate", room.status.text)


class Line:
    """A TCP connection through this process, which can be cut."""

    def __init__(self, case: Case, server: str) -> None:
        host, port = server.split(":")
        self.server, self.case = (host, int(port)), case
        self.listener = socket.create_server(("127.0.0.1", 0))
        case.addCleanup(self.listener.close)
        self.address = "127.0.0.1:{}".format(self.listener.getsockname()[1])
        self.ends: List[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.server)
            self.ends += [near, far]
            self.case.addCleanup(near.close)
            self.case.addCleanup(far.close)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while True:
                data = source.recv(65_536)
                target.sendall(data)
                if not data:
                    return
        except OSError:
            return

    def cut(self) -> None:
        ends, self.ends = self.ends, []
        for end in ends:
            end.shutdown(socket.SHUT_RDWR)


class BadInput(Case):
    def test_what_cannot_be_joined_is_refused_with_words(self) -> None:
        mistakes: List[Tuple[Type[Exception], str, Dict[str, Any]]] = [
            (ValueError, "is no address; write it as host:port", {"address": "a:b"}),
            (ValueError, "usually localhost:14900", {"address": "http://localhost:9999/"}),
            (ValueError, "at most 24 characters, this one has 25", {"name": "x" * 25}),
            (ValueError, "at least one visible character", {"name": " "}),
            (ValueError, "a room name has at most", {"room": "x" * 99}),
            (ValueError, "cannot begin or end with a blank", {"key": " quoted "}),
            (ValueError, "\"red\" is no colour", {"colour": "red"}),
            (ValueError, "three whole numbers, 0 to 255", {"colour": (1, 2, 256)}),
            (ValueError, "three whole numbers, 0 to 255", {"colour": 7}),
            (ValueError, "only one of ca and insecure", {"ca": "x", "insecure": True}),
            (OSError, "nowhere.pem: cannot read it", {"ca": "nowhere.pem"}),
            (TypeError, "not an instance of 'str'", {"name": 7}),
        ]
        for error, words, arguments in mistakes:
            with self.subTest(arguments), self.assertRaisesRegex(error, words):
                cubesync.join(**arguments)

    def test_what_is_no_pose_and_no_cube_moves_nothing(self) -> None:
        (room,) = self.joined(self.server().address, "Anna")
        before = room.own
        nan, far = math.nan, math.inf
        wrong: Any
        for wrong in ((nan, 0, 0), (0, -far, 0), (1, 2), (1, 2, 3, 4), ("1", 2, 3), None, 7, "abc"):
            with self.subTest(wrong), self.assertRaises((ValueError, TypeError)):
                room.move(wrong)
        for wrong in ((nan, 0, 0, 1), (0, 0, 1)):
            with self.subTest(wrong), self.assertRaises(ValueError):
                room.move((0.0, 0.0, 0.5), wrong)
        for wrong in ("cube", None, -1, 2**64, 1.5):
            with self.subTest(wrong), self.assertRaisesRegex(TypeError, "one of room.cubes, or its id"):
                room.take(wrong)
        assert before and room.own
        self.assertEqual(room.own.position, before.position)
        # There is no such cube.
        room.take(2**53 - 1)
        self.assertEqual(str(self.event(cubesync.Refused, room)), f"cube {2**53 - 1} cannot be taken")

    def test_a_closed_room_says_that_it_is(self) -> None:
        (room,) = self.joined(self.server().address, "Anna")
        room.close()
        room.close()
        calls: List[Callable[[], object]] = [
            room.poll,
            room.release,
            room.__enter__,
            lambda: room.cubes,
            lambda: room.own,
            lambda: room.held,
            lambda: room.status,
            lambda: room.fill(bytearray(9999)),
            lambda: room.move((0.0, 0.0, 0.5)),
            lambda: room.take(0),
            lambda: room.newest(0),
        ]
        for call in calls:
            with self.assertRaisesRegex(cubesync.Error, "^the room is closed$"):
                call()

    def test_rooms_and_cubes_are_made_by_rooms_alone(self) -> None:
        for kind in (cubesync.Room, cubesync.Cube):
            with self.assertRaises(TypeError):
                kind()


class Running(Case):
    def test_threads_share_a_room_until_one_closes_it(self) -> None:
        (room,) = self.joined(self.server().address, "Anna")
        wrong: List[BaseException] = []
        calls = [0] * 6

        def use(number: int) -> None:
            buffer = bytearray(100 * cubesync.RECORD_BYTES)
            try:
                while True:
                    room.poll()
                    room.move((number, 1.0, 0.5))
                    room.take(room.cubes[0])
                    room.fill(buffer)
                    room.release()
                    str(room.status)
                    calls[number] += 1
            except cubesync.Error:
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(len(calls))]
        for thread in threads:
            thread.start()
        end = time.monotonic() + TOO_LONG_S
        while min(calls) < 20 and time.monotonic() < end and not wrong:
            time.sleep(FRAME_S)
        room.close()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertGreaterEqual(min(calls), 20)

    def test_rooms_keep_no_memory_no_files_and_no_objects(self) -> None:
        address = self.server().address

        def use() -> None:
            room = cubesync.join(address, name="Anna")
            buffer = bytearray(100 * cubesync.RECORD_BYTES)
            self.until(lambda _: room.cubes, room)
            for _ in range(50):
                room.fill(buffer)
                str((room.poll(), room.cubes, room.own, room.status))
            room.close()

        def counts() -> List[int]:
            gc.collect()
            return [len(gc.get_objects()), len(os.listdir("/proc/self/fd")), threading.active_count()]

        for _ in range(3):
            use()
        before, memory = counts(), resident_bytes()
        for _ in range(30):
            use()
        after = counts()
        for least, most in zip(before, after):
            self.assertLessEqual(most, least + 20, f"{before} {after}")
        # A kept cube would be over 100 bytes: 30 x 50 x 61 of them.
        self.assertLess(resident_bytes() - memory, 4_000_000)


class Command(Case):
    def run_module(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "cubesync", *arguments]
        # A shell lets what it runs in the background ignore Ctrl-C, and so whatever that starts.
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
        )

    def test_it_says_in_words_what_happens_and_leaves_at_ctrl_c(self) -> None:
        server = self.server()
        (anna,) = self.joined(server.address, "Anna")
        program = self.run_module(server.address, "--name", "Bea")
        self.addCleanup(program.kill)
        self.event(cubesync.Joined, anna)
        assert program.stdout
        said = ""
        while "loose cubes" not in said:
            line = program.stdout.readline()
            self.assertTrue(line, said)
            said += line
        self.assertRegex(said, r"joined room lobby as Bea \(cube \d+\)")
        self.assertRegex(said, r"  Anna is at \(")
        program.send_signal(signal.SIGINT)
        self.assertEqual(self.event(cubesync.Left, anna).name, "Bea")
        _, errors = program.communicate(timeout=TOO_LONG_S)
        self.assertEqual((program.returncode, errors), (0, ""))

    def test_help_answers_and_mistakes_are_told(self) -> None:
        keyed = self.server("--join-key", "open sesame")
        for arguments, code, words in (
            (["--help"], 0, "python -m cubesync"),
            (["a:b"], 2, "error: \"a:b\" is no address"),
            (["--name", ""], 2, "at least one visible character"),
            (["--ca", "nowhere.pem"], 2, "cannot read it"),
            ([keyed.address], 1, "error: "),
        ):
            program = self.run_module(*arguments)
            output, errors = program.communicate(timeout=TOO_LONG_S)
            self.assertEqual(program.returncode, code, errors)
            self.assertIn(words, output + errors)
            self.assertNotIn("Traceback", errors)


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

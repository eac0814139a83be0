"""Whether the cases tell good from bad."""

import asyncio
import unittest
from collections import Counter

import sloppy
from cases import section_of
from run import parse, play_all

# One of each kind: too long a ping, a reserved bit, a reserved opcode, a ping in fragments, text that
# is no UTF-8, half a close code, a reserved close code.
BREACHES = ["2.5", "3.1", "4.1.1", "5.1", "6.3.1", "7.3.2", "7.9.1"]


async def outcomes_of_a_sloppy_echo():
    server = await asyncio.start_server(sloppy.serve, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = parse(["--port", str(port), "--parallel", "128", "--patience", "3"])
        return await play_all(options, report=lambda _: None)


class SloppyEcho(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.outcomes = asyncio.run(outcomes_of_a_sloppy_echo())

        cls.accepted = {name for name, outcome in cls.outcomes.items() if outcome.is_accepted}
        cls.refused = cls.outcomes.keys() - cls.accepted

    def test_what_it_lets_pass_is_held_against_it(self):
        sections = Counter(section_of(name) for name in self.refused)
        self.assertLessEqual(set(BREACHES), self.refused, sections)
        self.assertGreaterEqual(len(self.refused), 100, sections)

    def test_what_it_does_right_is_not(self):
        sections = Counter(section_of(name) for name in self.accepted)
        self.assertEqual(sections["1"], 16, self.refused)
        self.assertGreater(sections["9"], 10, self.refused)

    def test_a_long_message_that_comes_back_changed_is_noticed(self):
        outcome = self.outcomes["9.1.2"]
        self.assertIn("the echo is not what was sent", outcome.result)


if __name__ == "__main__":
    unittest.main()

"""Golden histories: the judge finds each bad one and lets the good one pass."""

import unittest

from history import History, judge

GOOD = {0: [(0, "a:0"), (1, "b:0"), (2, "a:1")], 1: [(0, "a:2"), (1, "b:1")]}


def history(acknowledged=None):
    made = History()
    for (partition, offset), value in (acknowledged or {(0, 0): "a:0", (0, 2): "a:1", (1, 1): "b:1"}).items():
        made.acknowledge(partition, offset, value)
    return made


class Golden(unittest.TestCase):
    def found(self, made, final, words):
        problems = judge(made, final)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(words, problems[0])

    def test_a_good_history_passes(self):
        made = history()
        made.see(0, 1, "b:0")
        for offset in (1, 1, 3):
            made.commit(0, offset)
            made.watermark(0, offset)
        made.commit(1, 0)
        self.assertEqual(judge(made, GOOD), [])

    def test_a_lost_acknowledged_tail_is_found(self):
        self.found(history(), {**GOOD, 1: [(0, "a:2")]}, "b:1 was acknowledged at (1, 1) and is gone")

    def test_a_lost_partition_is_found(self):
        self.found(history(), {0: GOOD[0]}, "is gone")

    def test_another_value_at_an_acknowledged_offset_is_found(self):
        self.found(history(), {**GOOD, 1: [(0, "a:2"), (1, "b:9")]}, "where b:9 stands now")

    def test_a_hole_is_found(self):
        self.found(history({(0, 0): "a:0"}), {0: [(0, "a:0"), (2, "a:1")]}, "offset 1 expected, 2 found")

    def test_a_missing_start_is_found(self):
        self.found(history({(0, 1): "a:1"}), {0: [(1, "a:1")]}, "offset 0 expected, 1 found")

    def test_a_duplicate_is_found(self):
        problems = judge(history(), {**GOOD, 1: [(0, "a:2"), (1, "b:1"), (2, "b:1")]})
        self.assertTrue(any("stands at" in problem for problem in problems), problems)

    def test_a_duplicate_in_another_partition_is_found(self):
        self.found(history(), {**GOOD, 2: [(0, "c:0")], 3: [(0, "c:0")]}, "c:0 stands at (2, 0) and at (3, 0)")

    def test_a_turned_order_is_found(self):
        self.found(history({(0, 0): "a:1"}), {0: [(0, "a:1"), (1, "a:0")]}, "a wrote 0 after 1")

    def test_two_answers_for_one_offset_are_found(self):
        made = history()
        made.acknowledge(0, 0, "a:7")
        self.assertIn("acknowledged for a:0 and for a:7", judge(made, GOOD)[0])

    def test_a_record_that_a_reader_saw_and_a_crash_took_is_found(self):
        made = history()
        made.see(1, 2, "a:3")
        self.found(made, GOOD, "a:3 was served to a reader at (1, 2) and is gone")

    def test_a_record_that_changes_under_a_reader_is_found(self):
        made = history()
        made.see(0, 1, "b:0")
        made.see(0, 1, "b:5")
        self.found(made, GOOD, "read as b:0 and later as b:5")

    def test_a_committed_offset_that_goes_back_is_found(self):
        made = history()
        for offset in (5, 7, 6):
            made.commit(0, offset)
        self.found(made, GOOD, "committed offset went back from 7 to 6")

    def test_a_high_watermark_that_goes_back_is_found(self):
        made = history()
        for offset in (5, 4):
            made.watermark(1, offset)
        self.found(made, GOOD, "high watermark went back from 5 to 4")


if __name__ == "__main__":
    unittest.main()

"""Threads of torch for pictures: one for small ones, unless the user has said how many, and restored afterwards."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.base.threads import threads_for_pictures  # noqa: E402


@pytest.mark.parametrize(
    ("shape", "told", "expected"), [((1, 8, 8), None, 1), ((3, 64, 64), None, 3), ((1, 8, 8), "3", 3)]
)
def test_small_pictures_have_one_thread(monkeypatch, shape, told, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ZeroDivisionError), threads_for_pictures(shape):
            assert torch.get_num_threads() == expected
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)

"""Ctrl-C and SIGTERM: noted inside `deferred`, ignored where the parent ignores them."""

import os
import signal
import threading

import pytest

from cliff.interrupt import SIGNALS, Terminated, deferred, exit_code

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_noted_and_second_raises(number):
    before = [signal.getsignal(one) for one in SIGNALS]
    with deferred() as request:
        assert not request
        request.raise_if_made()  # nothing to raise yet
        os.kill(os.getpid(), number)
        assert request
        assert request.number == number
        with pytest.raises(KeyboardInterrupt) as second:
            os.kill(os.getpid(), number)
        assert second.type is RAISED[number]
    assert [signal.getsignal(one) for one in SIGNALS] == before
    with pytest.raises(KeyboardInterrupt) as late:
        request.raise_if_made()
    assert late.type is RAISED[number]
    assert exit_code(late.value) == 128 + number


@pytest.mark.parametrize("number", SIGNALS)
def test_ignored_signal_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with deferred() as request:
            os.kill(os.getpid(), number)
            assert not request
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_handlers_come_back_after_an_exception():
    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(RuntimeError), deferred():
        raise RuntimeError
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_other_threads_install_nothing():
    seen = []

    def work():
        with deferred() as request:
            seen.append((bool(request), [signal.getsignal(one) for one in SIGNALS]))

    before = [signal.getsignal(one) for one in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]

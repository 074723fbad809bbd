"""Without a command there is help, not an error."""


def test_no_command_shows_help(run):
    done = run()
    assert done.code == 0
    assert "audit" in done.out
    assert done.err == ""

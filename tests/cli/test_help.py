"""Without a command there is help, not an error."""


def test_no_command_shows_help(run):
    done = run()
    assert done.code == 0
    assert "audit" in done.out
    assert done.err == ""


def test_the_command_knows_every_attack_of_the_list():
    # Written out in the command, which must not import what attacks are made of to print its help.
    from certimetric.attacks import ATTACKS
    from certimetric.cli import attack as command

    assert tuple(ATTACKS) == command._NAMES

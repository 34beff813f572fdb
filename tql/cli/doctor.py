"""`tql doctor`."""

import click

from tql.cli.screen import note, show, show_json
from tql.diagnostics import counted


@click.command("doctor")
@click.option("--clear", "clears", is_flag=True, help="Remove kernels of another compiler or CPU.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON; errors too.")
@click.option("--no-color", is_flag=True, help="No colour (as NO_COLOR does).")
def command(clears: bool, as_json: bool, no_color: bool) -> int:
    """Versions, the kernel cache, how kernels are compiled, and a trial of the compiler.

    The exit code is 1 where the trial fails.
    """
    from tql.memory_size import shown
    from tql.reports.doctor import as_lines, clear, examine

    if clears:
        files, size = clear()
        note(f"{counted(files, 'file')} removed, {shown(size)}")
    checkup = examine()
    if as_json:
        show_json(checkup.to_dict())
    else:
        for line in as_lines(checkup):
            show(line)
    return 0 if checkup.well else 1

"""What commands print: progress, tables, the welcome screen, the demo."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ml_backend.errors import JobError

if TYPE_CHECKING:
    from ml_backend.host.doctor import Finding
    from ml_backend.host.up import Running
    from ml_backend.loop.context import Context
    from ml_backend.loop.preview import Preview
    from ml_backend.settings import Settings
    from ml_backend.store.rows import Project

console = Console(highlight=False)


def speaker() -> Callable[[str], None]:
    """Print a line with the time since the start, so that waiting can be judged."""
    began = time.monotonic()

    def say(line: str) -> None:
        seconds = time.monotonic() - began
        stamp = f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"
        console.print(f"[{stamp}] {line}", markup=False, soft_wrap=True)

    return say


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show a step's progress as a bar on standard error that disappears when the step ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("", total=None)

        def report(done: int, total: int, text: str) -> None:
            bar.update(line, completed=done, total=total or None, description=text)

        yield report


def follow_job(settings: "Settings", step: str, project_id: int) -> None:
    """Request a step and show its progress. Raises `JobError` when the job fails."""
    from ml_backend.jobs.queues import Jobs

    jobs = Jobs(settings)
    job_id = jobs.request(step, project_id)
    if not jobs.workers():
        console.print(
            "queued, but no worker runs: start one with `brushloop worker`, or use --here"
        )
        return
    with progress_bar() as progress:
        view = jobs.fetch(job_id)
        while view.state in ("queued", "running"):
            progress(view.done, view.total, view.text or f"{step}: {view.state}")
            time.sleep(0.3)
            view = jobs.fetch(job_id)
    if view.state == "failed":
        raise JobError(f"{step} of project {project_id} failed: {view.error}")
    console.print(view.text, markup=False)


def request_job(settings: "Settings", step: str, project_id: int) -> None:
    """Request a step that should follow; without Redis say which command does it later."""
    from ml_backend.jobs.queues import Jobs

    try:
        Jobs(settings).request(step, project_id)
    except JobError as error:
        console.print(
            f"not done yet: {step} ({error}); run `brushloop {step} --here`", markup=False
        )


def show_models(context: "Context", project: "Project") -> None:
    """Print every version with its status and the gate's last word on it."""
    gates = {gate.candidate: gate for gate in context.catalog.models.gates(project.id)}
    table = Table(title=f"Models of project {project.id} ({project.title})")
    found = context.catalog.models.all(project.id)
    measured = ["iou", "dice"]
    measured += ["pq"] if any(model.card.get("instances") for model in found) else []
    names = {"iou": "val IoU", "dice": "val Dice", "pq": "val PQ"}
    heads = ("version", "status", *(names[key] for key in measured), "train tiles", "parent")
    for head in (*heads, "gate"):
        table.add_column(head)
    for model in found:
        metrics = model.card.get("metrics") or {}
        values = metrics | {"pq": (metrics.get("instances") or {}).get("pq")}
        gate = gates.get(model.version)
        table.add_row(
            model.version,
            model.status,
            *(f"{values[key]:.3f}" if values.get(key) is not None else "-" for key in measured),
            str(model.card.get("train_tiles", "-")),
            model.parent or "-",
            f"{gate.decision}: {gate.numbers.get('reason', '')}" if gate else "-",
        )
    console.print(table)


def show_preview(shown: "Preview", sheet: Path) -> None:
    """Print a batch that is not pushed, a line a tile, and where its picture is."""
    record = shown.record
    console.print(
        f"round {record.number}, of {record.pool_size} tiles; nothing is pushed", markup=False
    )
    if record.batch_mean is not None and record.pool_mean is not None:
        console.print(f"mean score {record.batch_mean:.4f}, of the pool {record.pool_mean:.4f}")
    if shown.note:
        console.print(shown.note, markup=False, soft_wrap=True)
    for number, pick in enumerate(shown.picks, 1):
        console.print(
            f"{number:>4}. {pick.tile.title}  {pick.reason}", markup=False, soft_wrap=True
        )
    console.print(f"look at {sheet}", markup=False, soft_wrap=True)


def show_status(context: "Context") -> None:
    """Print every project: pool, tasks, model, effort, what is next, and what cannot be used."""
    import numpy as np

    from ml_backend.cli.effort import advice_line
    from ml_backend.loop.due import outlook, told
    from ml_backend.loop.effort import effort
    from ml_backend.loop.site import missing_line

    for project in context.catalog.projects.all():
        catalog = context.catalog
        images = catalog.pool.images(project.id)
        current = catalog.models.current(project.id)
        unfetched = len(catalog.work.unfetched(project.id))
        console.print(f"Project {project.id} ({project.title})", style="bold", markup=False)
        console.print(
            f"  images {len(images)}, tiles not asked about {len(catalog.pool.unasked(project.id))}"
            f", open tasks {len(catalog.work.tasks(project.id, open_only=True))}"
            f"{f' ({unfetched} not looked at yet)' if unfetched else ''}"
            f", labelled {len(catalog.work.labelled(project.id))}"
            f", model {current.version if current else 'none yet'}"
        )
        if line := missing_line(context, project.id):
            console.print(f"  {line}", markup=False, soft_wrap=True)
        known = effort(context, project, np.random.default_rng(0))
        for row in known.rounds:
            work = row.work
            dice = "-" if work.dice is None else f"{work.dice:.3f}"
            console.print(
                f"  round {row.round}: {work.submitted} submitted, {work.accepted} unchanged, "
                f"Dice shown → submitted {dice}, {work.minutes:.1f} min of work"
            )
        console.print(f"  advice: {advice_line(known.advice)}", markup=False, soft_wrap=True)
        for line in told(outlook(context, project), project.recipe, context.now()):
            console.print(f"  {line}", markup=False, soft_wrap=True)
        _show_jobs(context.settings, project.id)
        _show_unused(context, project)


def _show_jobs(settings: "Settings", project_id: int) -> None:
    from ml_backend.jobs.queues import Jobs

    try:
        jobs = Jobs(settings)
        views, alone = jobs.overview(project_id), not jobs.schedules()
    except JobError as error:
        console.print(f"  jobs: {error}", markup=False)
        return
    if alone:
        console.print("  no schedule runs, so the clock starts nothing: `brushloop schedule`")
    for view in views:
        text = view.error if view.state == "failed" else view.text
        console.print(f"  {view.step}: {view.state} {text or ''}", markup=False)


def _show_unused(context: "Context", project: "Project") -> None:
    from ml_backend.loop.annotators import waiting
    from ml_backend.loop.reading import news
    from ml_backend.loop.unused import asides, unused

    for line in _intake_lines(context, project.id):
        console.print(f"  last pool add: {line}", markup=False, soft_wrap=True)
    for line in news(project):
        console.print(f"  labels: {line}", markup=False, soft_wrap=True)
    if few := waiting(context, project.id):
        people = project.recipe.loop.consensus_minimum
        console.print(f"  consensus: {few} tiles do not have answers of {people} people yet")
    for item in unused(context, project.id):
        links = "".join(f" ({link})" for link in item.links)
        console.print(f"  {item.what}: {item.reason}{links}", markup=False, soft_wrap=True)
    if rest := asides(context, project.id):
        console.print(f"  {rest}", markup=False, soft_wrap=True)


def _intake_lines(context: "Context", project_id: int) -> list[str]:
    """What the last `pool add` left out, chose or doubted; images set aside are told apart."""
    from ml_backend.loop.pool import last_intake

    summary = last_intake(context, project_id)
    if summary is None:
        return []
    return list(summary.lines(("chosen", "passed_over", "unpaired", "warnings")))


def show_findings(findings: "Sequence[Finding]") -> None:
    """Print what `doctor` found."""
    for finding in findings:
        mark = "ok " if finding.well else "BAD"
        console.print(f"{mark} {finding.name}: {finding.text}", markup=False, soft_wrap=True)


def show_address(running: "Running") -> None:
    """Print where the project's page is and how to log in."""
    console.print(_address(running), markup=False, soft_wrap=True)


def _address(running: "Running") -> str:
    return (
        f"Open    {running.page}\n"
        f"Login   {running.secrets.studio_email}\n"
        f"Pass    {running.secrets.studio_password}"
    )


def show_welcome(running: "Running") -> None:
    """Print the one screen that a person needs to begin."""
    project = running.project
    console.print(
        Panel(
            f"{_address(running)}\n\n"
            "1. The first tasks come in a moment: press 'Label All Tasks', paint,\n"
            "   press Submit. A model's labels, to correct, come when there is one.\n"
            "2. When the batch is done the model learns from it; the next one appears.\n"
            "3. In another terminal: brushloop status · brushloop export masks\n"
            f"   (with --home {running.settings.home})\n\n"
            "Ctrl-C stops everything; the same command carries on.",
            title=f"Brushloop · {project.title}",
            expand=False,
        ),
        markup=False,
    )


def run_demo(
    running: "Running", rounds: int, report: Path | None, say: Callable[[str], None]
) -> None:
    """Play the demo, print its table, write its picture, its export and its report."""
    from ml_backend.demo.drive import drive
    from ml_backend.demo.report import draw_curve, report_of, table_of, write_report
    from ml_backend.loop.context import open_context
    from ml_backend.loop.export import export

    with open_context(running.settings) as context:
        results = drive(running, context, rounds, say)
        say("exporting masks")
        folder = running.settings.home / "exports" / f"project-{running.project.id}"
        with progress_bar() as progress:
            exported = export(context, running.project.id, folder, progress=progress)
        curve = draw_curve(results, folder / "learning-curve.png")
    console.print(table_of(results))
    console.print(f"masks: {folder}\ncurve: {curve}", markup=False, soft_wrap=True)
    if report is not None:
        seed = running.project.recipe.selection.seed
        data = report_of(results, exported, project_id=running.project.id, seed=seed, curve=curve)
        write_report(data, report)
        console.print(f"report: {report}", markup=False, soft_wrap=True)

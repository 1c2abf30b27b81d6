"""sweep and reconcile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sessionctl.cli.options import Output, OutputOption, duration

if TYPE_CHECKING:
    from datetime import timedelta

    from sessionctl.factory import Factory
    from sessionctl.wire import ReconcileResult, SweepResult

REPAIR_FAILED = 1


def sweep(
    ctx: typer.Context,
    loop: Annotated[bool, typer.Option("--loop", help="Go on until stopped, logging to standard error.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put idle sessions to sleep, wake those that sleep against demand, and restore demand after a loss of Redis.

    A session whose pod does not start in time (sessions.startTimeout) is put to sleep too, and is failed.

    KEDA may not read the queues before this has run: its Redis user is off until then.

    Examples:

      sessionctl sweep

      sessionctl sweep --loop
    """
    from sessionctl.cli.logs import log_to_stderr
    from sessionctl.cli.render import facts, show
    from sessionctl.cli.run import call
    from sessionctl.wire import SweepResult

    async def for_ever(factory: Factory) -> None:
        log_to_stderr(factory.settings.logging.level)
        await (await factory.create_sweep_loop()).forever()

    async def once(factory: Factory) -> SweepResult:
        done = await (await factory.create_sweep_loop()).once()
        return SweepResult(
            gate="open" if done.gate_open else "closed",
            slept=done.report.slept,
            adopted=done.report.adopted,
            kept=(*done.report.kept, *done.starts.kept),
            refused=(*done.report.refused, *done.starts.refused),
            woken=done.woken,
            failed=done.starts.failed,
        )

    if loop:
        call(ctx, for_ever, lasting=True)
        return
    answer = call(ctx, once)
    rows = facts(
        [
            ("GATE", answer.gate),
            *(
                (name.upper(), " ".join(sessions) or None)
                for name, sessions in answer.model_dump().items()
                if name != "gate"
            ),
        ]
    )
    show(answer, output, rows)


def reconcile(
    ctx: typer.Context,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="Leave operations younger than this alone (default 2m)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Complete or undo what was cut off midway, and remove volumes whose retention has ended.

    Examples:

      sessionctl reconcile --dry-run

      sessionctl reconcile --grace 0s
    """
    from sessionctl.cli.render import show
    from sessionctl.cli.run import call
    from sessionctl.wire import ReconcileResult, Repair

    given: timedelta | None = duration("--grace", grace) if grace is not None else None

    async def work(factory: Factory) -> ReconcileResult:
        reconciler = await factory.create_reconciler()
        spared = given if given is not None else factory.settings.reconcile.grace
        repairs = await reconciler.run(spared, dry_run=dry_run)
        return ReconcileResult(
            dry_run=dry_run,
            repairs=tuple(Repair(uuid=r.session_id, repair=r.repair, error=r.error) for r in repairs),
        )

    answer = call(ctx, work, lasting=True)
    rows = [["UUID", "REPAIR", "RESULT"]]
    done = "would be done" if dry_run else "done"
    rows += [[repair.uuid, repair.repair, repair.error or done] for repair in answer.repairs]
    show(answer, output, rows)
    if any(repair.error for repair in answer.repairs):
        raise typer.Exit(REPAIR_FAILED)

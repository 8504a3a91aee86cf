import type { WorkloadHistoryView, WorkloadView } from '../../contracts/api/workload-view.ts';
import { FAILURE_ADVICE } from '../../domain/failure-advice.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { renderStageTable } from '../terminal/stage-table.ts';
import { durationText, plainText } from '../terminal/terminal-text.ts';
import { fieldLines, section, textColumns } from '../terminal/text-columns.ts';
import { logLine } from './log-line.ts';

/** `kiln workload get`. @returns exit code */
export async function getWorkload(context: CliContext, output: CommandOutput, id: string): Promise<number> {
  const view = await (await context.connect()).getWorkload({ params: { id } });
  output.answer(view, () => workloadTable(context, output, view));
  return EXIT.ok;
}

/** `kiln workload inspect`. @returns exit code */
export async function inspectWorkload(context: CliContext, output: CommandOutput, id: string): Promise<number> {
  const view = await (await context.connect()).getWorkload({ params: { id } });
  output.answer(view, () => [
    ...workloadTable(context, output, view),
    '',
    ...fieldLines(fieldsOf(view)),
    ...section('error', plainLines(view.error)),
    ...section('what helps', plainLines(view.code && FAILURE_ADVICE[view.code])),
    ...section('stack', plainLines(view.stack)),
    ...section(
      view.logsTruncated ? 'last log lines' : 'log',
      view.logs.map((entry) => logLine(entry, output.color)),
    ),
  ]);
  return EXIT.ok;
}

/** `kiln workload history`. @returns exit code */
export async function showHistory(context: CliContext, output: CommandOutput, id: string): Promise<number> {
  const history = await (await context.connect()).workloadHistory({ params: { id } });
  output.answer(history, () => historyLines(history));
  return EXIT.ok;
}

/** @returns the stage table of a view, as wide as the terminal. */
export function workloadTable(context: CliContext, { color }: CommandOutput, view: WorkloadView): string[] {
  return renderStageTable(view, { now: context.now(), width: context.stdout.columns ?? 120, color });
}

function historyLines({ moves, events, source }: WorkloadHistoryView): string[] {
  const told =
    source === 'temporal'
      ? 'from the recorded events'
      : events === undefined
        ? 'from the archived result; the events were forgotten before they were recorded'
        : 'from the recorded events, as the archive keeps them';
  return [
    ...textColumns(
      ['AT', 'FROM', 'TO', 'CAUSE'],
      moves.map(({ at, from, to, cause }) => [at, from, to, cause]),
    ),
    events === undefined ? told : `${events} events; ${told}`,
  ];
}

function fieldsOf(view: WorkloadView): Record<string, string | undefined> {
  const { exit, usage } = view;
  return {
    stage: view.stage,
    image: view.image,
    priority: String(view.priority),
    deployment: view.deploymentId,
    project: view.projectId,
    host: view.hostId,
    vm: view.containerId,
    pid: view.pid?.toString(),
    url: view.url,
    cpu: usage && durationText(usage.cpuMs),
    memory: usage && memoryText(usage),
    exit: exit === undefined ? undefined : `${exit.reason} (code ${exit.code ?? '-'}, signal ${exit.signal ?? '-'})`,
    code: view.code,
    failedStage: view.failedStage,
    vmReady: view.vmReadyMs === undefined ? undefined : durationText(view.vmReadyMs),
    created: view.createdAt,
    updated: view.updatedAt,
    temporal: view.links.temporal,
  };
}

const MIB = 1024 * 1024;

function memoryText({ memoryBytes, memoryPeakBytes, memoryLimitBytes }: NonNullable<WorkloadView['usage']>): string {
  const mib = (bytes: number) => `${Math.round(bytes / MIB)} MiB`;
  const peak = memoryPeakBytes === undefined ? '' : `, at most ${mib(memoryPeakBytes)} so far`;
  return mib(memoryBytes) + peak + (memoryLimitBytes === undefined ? '' : `, limit ${mib(memoryLimitBytes)}`);
}

function plainLines(text = ''): string[] {
  return text.split('\n').map(plainText);
}

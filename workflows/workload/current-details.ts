import { FAILURE_ADVICE } from '../../domain/failure-advice.ts';
import { block, code, link, plain } from '../../domain/markdown-text.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';

const MESSAGE = 1000;
const REASON = 400;
const TAIL_LINES = 12;
const TAIL = 1500;
const NOTES = 5;
const LEFT = 10;

/**
 * Page for the operator in the Temporal Web UI: what the workload is, where it is, what it does and since when, why it
 * waits or has failed, what to do next. Markdown of bounded size; text from outside is never markup. Pure.
 */
export function currentDetails(state: WorkloadState, logsUrl: string | undefined): string {
  return [
    headline(state),
    '',
    ...trouble(state),
    ...facts(state).map(([label, text]) => `- **${label}:** ${text}`),
    '',
    ...stageTable(state),
    '',
    ...afterthoughts(state),
    nextSteps(state, logsUrl),
  ].join('\n');
}

function headline(state: WorkloadState): string {
  const { failure, leaving, stage } = state;
  const since = moment(state.moves.at(-1)?.at ?? state.createdAt);
  if (failure && isFinal(stage)) return `### ✗ failed in ${failure.stage}: ${code(failure.code)}`;
  if (leaving) return `### ● ${stage}, ending since ${moment(leaving.since)}: ${plain(leaving.cause, REASON)}`;
  if (state.waiting) return `### ● ${stage}, waiting since ${moment(state.waiting.since)}`;
  return `### ${isFinal(stage) ? '■' : '●'} ${stage} since ${since}`;
}

/** Why it waits or has failed, and what helps: comes first on the page. */
function trouble({ failure, waiting }: WorkloadState): string[] {
  if (failure) {
    const advice = FAILURE_ADVICE[failure.code];
    const tail = failure.stack === undefined ? [] : [...block(failure.stack, TAIL_LINES, TAIL), ''];
    return [plain(failure.message, MESSAGE), '', ...tail, ...(advice === undefined ? [] : [`**Fix:** ${advice}`, ''])];
  }
  return waiting === undefined ? [] : [plain(waiting.reason, REASON), ''];
}

function facts(state: WorkloadState): [label: string, text: string][] {
  const { vm, exit, image } = state;
  const rows: [string, string | undefined][] = [
    ['Service', code(state.servicePath) + belongs(state)],
    ['Image', image && `${code(image.name)} ${code(image.digest.slice(0, 19))}`],
    ['Doing', doing(state)],
    ['Host', vm && code(vm.hostId)],
    ['VM', vm && `${code(vm.vmId)}${vm.pid === undefined ? '' : `, pid ${vm.pid}`}`],
    ['Address', vm?.url === undefined ? undefined : link(vm.url)],
    ['Exit', exit && `${exit.signal ?? `code ${exit.code ?? 'unknown'}`} (${exit.reason})`],
  ];
  return rows.flatMap(([label, text]) => (text === undefined ? [] : [[label, text] as [string, string]]));
}

function belongs({ deploymentId, projectId }: WorkloadState): string {
  const of = (label: string, id: string | undefined) => (id === undefined ? '' : `, ${label} ${code(id)}`);
  return of('deployment', deploymentId) + of('project', projectId);
}

/** What happens within the stage, as far as the state shows it. */
function doing({ stage, vm, leaving, waiting }: WorkloadState): string | undefined {
  if (isFinal(stage)) return undefined;
  if (leaving) return 'stops the service, then releases VM, disks, port and reservation';
  if (stage === 'pending') return waiting ? 'asks again for a host' : 'chooses a host and reserves capacity';
  if (stage === 'validate') return 'reads and checks the service folder';
  if (stage === 'build') return 'builds in a builder VM of its own';
  if (stage === 'running') return 'answers; its process and health are watched';
  if (vm?.pid === undefined) return 'makes disks and boots the VM';
  return vm.url === undefined ? 'starts the service' : 'waits for the first healthy answer';
}

function stageTable({ createdAt, moves }: WorkloadState): string[] {
  const head = cells('stage', 'entered, UTC', 'took', 'why');
  const entered = [{ to: 'pending', at: createdAt, cause: 'created' }, ...moves];
  const rows = entered.map(({ to, at, cause }, index) => {
    const next = entered[index + 1];
    const took = next === undefined ? '' : `${((Date.parse(next.at) - Date.parse(at)) / 1000).toFixed(1)} s`;
    const day = at.slice(0, 10) === createdAt.slice(0, 10);
    return cells(to, day ? moment(at).slice(11) : moment(at), took, plain(cause, 200));
  });
  return [head, '|---|---|---|---|', ...rows];
}

/** The Web UI puts no space between columns; it keeps non-breaking spaces. */
function cells(...texts: readonly string[]): string {
  return `|${texts.map((text) => ` ${text}\u00a0\u00a0\u00a0 `).join('|')}|`;
}

/** What could not be released, and what went wrong on the way. */
function afterthoughts({ unreleased, notes }: WorkloadState): string[] {
  const left = unreleased.slice(0, LEFT).map(({ name, hostId, message }) => {
    return `- ⚠ **not released:** ${code(name)} on ${code(hostId)}: ${plain(message, REASON)}`;
  });
  const more = unreleased.length > LEFT ? [`- ⚠ and ${unreleased.length - LEFT} more`] : [];
  const told = notes.slice(-NOTES).map((note) => `- note: ${plain(note, 300)}`);
  const all = [...left, ...more, ...told];
  return all.length === 0 ? [] : [...all, ''];
}

function nextSteps({ workloadId, stage }: WorkloadState, logsUrl: string | undefined): string {
  const steps = ['inspect', 'logs', ...(isFinal(stage) ? [] : ['stop'])];
  const commands = steps.map((step) => code(`kiln workload ${step} ${workloadId}`));
  return [...commands, ...(logsUrl === undefined ? [] : [`log: ${link(logsUrl)}`])].join(' · ');
}

/** ISO 8601 without the parts that an operator does not need. */
function moment(at: string): string {
  return at.slice(0, 19).replace('T', ' ');
}

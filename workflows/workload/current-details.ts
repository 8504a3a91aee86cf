import type { StageMove, WorkloadState } from '../../domain/workload.ts';

/** The operator's page in the Temporal Web UI: what it is, where it stands and why, in Markdown. Pure. */
export function currentDetails(state: WorkloadState, logsUrl: string | undefined): string {
  const lines = [headline(state), '', ...facts(state), '', ...stageTable(state)];
  if (logsUrl !== undefined) lines.push('', `[Logs](${logsUrl})`);
  return lines.join('\n');
}

function headline(state: WorkloadState): string {
  if (state.failure) return `### failed in ${state.failure.stage}: \`${state.failure.code}\``;
  if (state.leaving) return `### ${state.stage}, leaving (${state.leaving.cause})`;
  if (state.waiting) return `### ${state.stage}, waiting`;
  return `### ${state.stage}`;
}

function facts(state: WorkloadState): string[] {
  const rows: string[] = [`Service \`${state.servicePath}\``];
  if (state.failure) rows.push(state.failure.message.slice(0, 1000));
  if (state.waiting) rows.push(`Waiting since ${state.waiting.since}: ${state.waiting.reason}`);
  if (state.vm) {
    const { hostId, vmId, pid, url } = state.vm;
    rows.push(
      `VM \`${vmId}\` on \`${hostId}\`${pid === undefined ? '' : `, pid ${pid}`}${url === undefined ? '' : `, [${url}](${url})`}`,
    );
  }
  if (state.exit) rows.push(`Exit: ${exitText(state.exit)}`);
  for (const left of state.unreleased) rows.push(`**Not released**: ${left.name} on ${left.hostId}: ${left.message}`);
  for (const note of state.notes.slice(-5)) rows.push(`Note: ${note.slice(0, 300)}`);
  return rows.map((row) => `- ${row}`);
}

function exitText(exit: NonNullable<WorkloadState['exit']>): string {
  const how = exit.signal === null ? `code ${exit.code ?? 'unknown'}` : exit.signal;
  return `${how} (${exit.reason})`;
}

function stageTable(state: WorkloadState): string[] {
  const head = ['| stage | entered | took | why |', '|---|---|---|---|'];
  return [...head, row('pending', state.createdAt, state.moves[0], 'created'), ...state.moves.map(moveRow)];
}

function moveRow(move: StageMove, index: number, moves: readonly StageMove[]): string {
  return row(move.to, move.at, moves[index + 1], move.cause);
}

function row(stage: string, at: string, next: StageMove | undefined, why: string): string {
  const took = next === undefined ? '' : `${((Date.parse(next.at) - Date.parse(at)) / 1000).toFixed(1)} s`;
  return `| ${stage} | ${at} | ${took} | ${why.replaceAll('|', '/').replaceAll('\n', ' ').slice(0, 200)} |`;
}

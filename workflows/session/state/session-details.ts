import { setCurrentDetails } from '@temporalio/workflow';
import { code } from '../../../domain/markdown-text.ts';
import { lostInWords } from '../../../domain/session/run-book.ts';
import { savedInWords } from '../../../domain/session/save-book.ts';
import { causeInWords } from '../../../domain/session/session-events.ts';
import { expiryOf } from '../../../domain/session/session-state.ts';
import type { SessionContext } from '../session-context.ts';

const SHOWN_EVENTS = 30;

/** Shows tier, queue and the last events in the Temporal Web UI. No text of a message is there to be shown. */
export function showDetails({ state }: SessionContext): void {
  const { waiting, running, turn, lost } = state.runs;
  const { place } = state.state;
  const lines = [
    `**Tier:** ${state.tier}`,
    `**Turns:** ${turn}`,
    running === undefined ? '**Run:** none' : `**Run:** ${code(running.id)}, turn ${running.turn}`,
    `**Waiting:** ${waiting.length === 0 ? 'none' : waiting.map(({ id }) => code(id)).join(', ')}`,
    place === undefined ? '**VM:** none' : `**VM:** ${code(place.vmId)} on ${code(place.hostId)}`,
    `**Saved:** ${savedInWords(state.saves)}`,
    ...(lost === undefined ? [] : [`**Lost:** ${lostInWords(lost)}`]),
    `**Expires:** ${new Date(expiryOf(state.state)).toISOString()}`,
  ];
  setCurrentDetails(`${lines.map((line) => `- ${line}`).join('\n')}\n\n${eventTable(state)}`);
}

function eventTable({ state }: SessionContext['state']): string {
  const rows = state.events.slice(-SHOWN_EVENTS).map((event) => {
    const { of, at, cause, ...change } = event;
    const what = of === 'run' ? code(event.of === 'run' ? event.runId : '') : of;
    const to = 'to' in change ? change.to : '';
    return `| ${at} | ${what} | ${to} | ${causeInWords(cause).replaceAll('|', '\\|')} |`;
  });
  return ['| when | what | to | why |', '|---|---|---|---|', ...rows].join('\n');
}

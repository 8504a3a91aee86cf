import type { SessionView } from '../../contracts/api/session-view.ts';
import { defined } from '../../domain/defined.ts';
import { lostInWords } from '../../domain/session/run-book.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { durationText } from '../terminal/terminal-text.ts';
import { fieldLines, section, textColumns } from '../terminal/text-columns.ts';

/** Of the changes that the API tells, the last ones. */
const SHOWN_EVENTS = 20;

/** `kiln session inspect`. @returns exit code */
export async function inspectSession(
  context: CliContext,
  output: CommandOutput,
  thread: string,
  { project }: { readonly project?: string },
): Promise<number> {
  const api = await context.connect();
  const view = await api.getSession({ params: { thread }, query: defined({ project }) });
  output.answer(view, () => [
    ...sessionLines(view, context.now()),
    ...section('waiting', waitingLines(view, context.now())),
    ...section('last changes', eventLines(view)),
  ]);
  return EXIT.ok;
}

/** @returns what a session is now, for people */
export function sessionLines(view: SessionView, now: number): string[] {
  const { settings, running, lost, saved, end } = view;
  const { vcpus, memMib, diskMib } = settings.resources;
  return fieldLines({
    thread: view.thread,
    project: view.project,
    tier: view.tier,
    turns: String(view.turns),
    running: running && `${running.id} (turn ${running.turn}, for ${age(running.startedAt, now)})`,
    waiting: view.waiting.length === 0 ? undefined : String(view.waiting.length),
    saved: saved && `up to turn ${saved.turn}${saved.isWhole ? '' : ', what came after it not yet'}`,
    lost: lost && lostInWords(lost),
    host: view.hostId,
    vm: view.vmId,
    image: `${settings.image.name} (${settings.image.digest})`,
    resources: `${vcpus} vCPU, ${memMib} MiB, /workspace ${diskMib} MiB`,
    egress: settings.egress.length === 0 ? 'none' : settings.egress.join(', '),
    created: view.createdAt,
    expires: view.expiresAt && `${view.expiresAt} (without activity for ${durationText(settings.tiers.ttlMs)})`,
    ended: end && `${end.as} at ${end.at}: ${end.cause}, last turn ${end.lastTurn}`,
    temporal: view.links.temporal,
  });
}

function waitingLines({ waiting }: SessionView, now: number): string[] {
  const rows = waiting.map(({ id, acceptedAt }) => [id, age(acceptedAt, now)]);
  return rows.length === 0 ? [] : textColumns(['RUN', 'FOR'], rows);
}

function eventLines({ events }: SessionView): string[] {
  const rows = events.slice(-SHOWN_EVENTS).map(({ at, what, to, cause, why }) => [at, what, to, cause, why]);
  return rows.length === 0 ? [] : textColumns(['AT', 'WHAT', 'TO', 'CAUSE', 'WHY'], rows);
}

function age(at: string, now: number): string {
  return durationText(now - Date.parse(at));
}

/** The runs of a life: scripts that look at the workspace, change it, and look again. */
import type { Run } from '../../client/http/sessions/run.ts';
import type { Session } from '../../client/http/sessions/session.ts';
import { WALK } from './guest-walk.ts';
import type { Tree } from './tree.ts';
import { type Changes, MARK, quoted } from './tree-changes.ts';

/** Exit code of a run that has found another mark in the workspace than it was told, and has changed nothing. */
export const OTHER_MARK = 9;

export interface Sent {
  readonly run: Run;
  readonly changes: Changes | undefined;
  /** What its changes are for. */
  readonly mark: string;
  readonly output: Promise<Buffer | undefined>;
}

/** @returns what the last run has left in the workspace to be known by */
export function markOf(tree: Tree): string {
  const mark = tree.get(MARK);
  return mark?.kind === 'file' ? mark.content.toString('latin1') : '';
}

export interface RunPlan {
  readonly id: string;
  /** Absent: it only looks. */
  readonly changes: Changes | undefined;
  /** Script after the second look. */
  readonly then: string;
  /** Of the workspace that the changes are for. */
  readonly mark: string;
}

/** Sends it, and reads its output from now on. */
export function sendRun(session: Session, { id, changes, then, mark }: RunPlan): Sent {
  const guard = `[ "$(cat ${MARK} 2>/dev/null)" = ${quoted(mark)} ] || exit ${OTHER_MARK}`;
  const work = changes === undefined ? '' : `${guard}\nset -e\n${changes.script}\nwalk\n${then}`;
  const run = session.command(['bash', '-c', `umask 022\n${WALK}\nwalk\n${work}`], { id });
  return { run, changes, mark, output: outputOf(run) };
}

/** @returns its output; undefined where some of it is gone */
async function outputOf(run: Run): Promise<Buffer | undefined> {
  const pieces: Uint8Array[] = [];
  try {
    for await (const { stream, bytes } of run) {
      if (bytes === undefined) return undefined;
      if (stream === 'stdout') pieces.push(bytes);
      else process.stderr.write(`${run.id}: ${Buffer.from(bytes)}`);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(pieces);
}

import { randomUUID } from 'node:crypto';
import { KilnError } from '../../domain/failures.ts';
import { isNotInWorkspace, leadsOutOfWorkspace } from '../../domain/session/workspace-path.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import { IN_THE_WAY, LEADS_OUT, NO_SUCH_FILE } from './guest-scripts.ts';

/** Time that a script gets in the guest, ms. */
const SCRIPT_MS = 30_000;
const MAX_ERROR_BYTES = 1000;

/**
 * Runs a script in the guest.
 * @param maxBytes of output that are taken; the rest is not read, and the script is ended
 * @throws NOT_FOUND, SPEC_INVALID, CONFLICT by the exit code of the script; UNSUPPORTED where a program is missing;
 *   INTERNAL for any other exit; AGENT_LOST
 */
export async function inGuest(
  agent: AgentChannel,
  script: string,
  args: readonly string[],
  maxBytes: number,
): Promise<{ readonly output: Buffer; readonly isCut: boolean }> {
  const argv = ['/bin/sh', '-c', script, 'sh', ...args];
  const exec = await agent.exec({
    execId: `files-${randomUUID()}`,
    argv,
    cwd: '/',
    env: { LC_ALL: 'C' },
    timeoutMs: SCRIPT_MS,
    output: 'wait',
  });
  exec.exit.catch(() => undefined);
  const pieces: Buffer[] = [];
  let bytes = 0;
  let said = '';
  for await (const piece of exec.output) {
    if (piece.kind !== 'data') continue;
    if (piece.stream === 'stderr') said = (said + piece.data.toString('utf8')).slice(-MAX_ERROR_BYTES);
    else {
      pieces.push(piece.data);
      bytes += piece.data.length;
    }
    if (bytes <= maxBytes) continue;
    await exec.signal('SIGKILL').catch(() => undefined);
    return { output: Buffer.concat(pieces).subarray(0, maxBytes), isCut: true };
  }
  const { code, timedOut } = await exec.exit;
  if (code === 0) return { output: Buffer.concat(pieces), isCut: false };
  throw failureOf(code, timedOut, said);
}

function failureOf(code: number | null, timedOut: boolean, said: string): KilnError {
  if (code === NO_SUCH_FILE) return isNotInWorkspace();
  if (code === LEADS_OUT) return leadsOutOfWorkspace();
  if (code === IN_THE_WAY) return new KilnError('CONFLICT', 'A folder is in the way, or it is not empty.');
  if (timedOut) return new KilnError('AGENT_TIMEOUT', `The guest took longer than ${SCRIPT_MS} ms for its files.`);
  if (code === 127 || code === 126) {
    return new KilnError(
      'UNSUPPORTED',
      `The image lacks programs that files need (${said.trim()}). Add them to it with \`kiln image build NAME\`, and begin a new session with it.`,
    );
  }
  if (/No space left|Disk quota/.test(said)) return new KilnError('DISK_FULL', 'The workspace is full.');
  return new KilnError('INTERNAL', `The guest could not do it (exit ${code}): ${said.trim()}`);
}

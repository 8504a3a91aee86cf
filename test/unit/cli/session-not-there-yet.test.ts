/** Commands for what sessions cannot do yet: the API refuses them, and its words are shown. */
import { describe, expect, it } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { type CliWorld, kiln } from '../../support/gateway/cli-fixtures.ts';

type Api = NonNullable<CliWorld['api']>;

describe('what is not there yet', () => {
  const bodies: unknown[] = [];
  const refused = async ({ body }: { body?: unknown }): Promise<never> => {
    bodies.push(body);
    throw new KilnError('UNSUPPORTED', 'not there yet; use something else');
  };
  const api: Api = { sendRun: refused, sleepSession: refused, forkSession: refused };

  it.each([
    [['run', 'thread-42', '--id', 'a', '--message', 'make it bounce'], { id: 'a', message: 'make it bounce' }],
    [['fork', 'thread-42', 'copy', '--turn', '3'], { thread: 'copy', turn: 3 }],
  ])('ends with 1, the code and what to use instead: %j', async (args, body) => {
    const { stdout, stderr, exitCode } = await kiln(['session', ...args], { api });
    expect([stdout, exitCode]).toEqual(['', 1]);
    expect(bodies.at(-1)).toEqual(body);
    expect(stderr).toContain('kiln: UNSUPPORTED: not there yet; use something else');
  });
});

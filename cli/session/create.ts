import { type CreateSessionBody, createSessionBodySchema } from '../../contracts/api/session-request.ts';
import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { checkedBody, given } from '../request-body.ts';
import { sessionLines } from './inspect.ts';

export interface CreateOptions {
  readonly project?: string;
  readonly image?: string;
  readonly vcpus?: number;
  readonly memMib?: number;
  readonly diskMib?: number;
  readonly egress?: readonly string[];
  /** Milliseconds. */
  readonly idle?: number;
  readonly ttl?: number;
  readonly ifEnded?: string;
}

/** `kiln session create`. @returns exit code @throws UsageError that names every option that is wrong */
export async function createSession(
  context: CliContext,
  output: CommandOutput,
  thread: string,
  options: CreateOptions,
): Promise<number> {
  const body = bodyOf(thread, options);
  const api = await context.connect();
  const view = await api.createSession({ query: defined({ project: options.project }), body });
  output.answer(view, () => sessionLines(view, context.now()));
  output.note(`Run something in it with: kiln session run ${thread} -- COMMAND`);
  return EXIT.ok;
}

function bodyOf(thread: string, options: CreateOptions): CreateSessionBody {
  const { image, vcpus, memMib, diskMib, egress, idle, ttl, ifEnded } = options;
  const groups = { resources: given({ vcpus, memMib, diskMib }), tiers: given({ idleMs: idle, ttlMs: ttl }) };
  const filled = Object.entries(groups).filter(([, group]) => Object.keys(group).length > 0);
  const fields = { thread, ...given({ image, egress, ifEnded }), ...Object.fromEntries(filled) };
  return checkedBody(createSessionBodySchema, fields, OPTION_OF);
}

const OPTION_OF: Readonly<Record<string, string>> = {
  thread: 'the thread',
  image: '--image',
  egress: '--egress',
  'resources.vcpus': '--vcpus',
  'resources.memMib': '--mem-mib',
  'resources.diskMib': '--disk-mib',
};

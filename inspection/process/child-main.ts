/**
 * The process that reads strangers' folders: requests on standard input, answers on standard output, one per line. It
 * is killed when it takes too much, and ends with the process that started it.
 */
import { writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { createInterface } from 'node:readline';
import { type InspectionReply, inspectionRequestSchema } from '../../contracts/service/inspection-messages.ts';
import { answerRequest } from './answer-request.ts';
import { ownDataBytes } from './own-data-bytes.ts';

/** A machine short of memory should take this process before any VM (700). */
const OOM_SCORE = 900;

function say(reply: InspectionReply): void {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

// A signal to all of the host's processes must not end this one: the host ends it.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => undefined);
try {
  writeFileSync('/proc/self/oom_score_adj', String(OOM_SCORE));
} catch {
  // A container may forbid it.
}
const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
lines.on('line', (line) => {
  void answerRequest(inspectionRequestSchema.parse(JSON.parse(line))).then(say);
});
lines.once('close', () => process.exit(0));
say({ kind: 'ready', dataBytes: ownDataBytes() });
// Its owner ends it by force, and Node.js keeps what it has compiled only at an exit.
flushCompileCache();

import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';

/** What QEMU says on a QMP monitor, one JSON object a line. */
const greeting = z.object({
  QMP: z.object({
    version: z.object({ qemu: z.object({ major: z.int(), minor: z.int(), micro: z.int() }), package: z.string() }),
  }),
});
const event = z.object({
  event: z.string().max(128),
  data: z.record(z.string(), z.unknown()).exactOptional(),
});
const success = z.object({ return: z.unknown(), id: z.int() }).refine((message) => 'return' in message);
const failure = z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.int().exactOptional() });

export type QmpMessage =
  | { readonly kind: 'greeting'; readonly version: string }
  | { readonly kind: 'event'; readonly name: string; readonly data: Readonly<Record<string, unknown>> }
  | { readonly kind: 'return'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: number | undefined; readonly class: string; readonly description: string };

/** Cuts a byte stream into QMP messages. */
export interface QmpParser {
  /** @throws INTERNAL where the bytes are not QMP; nothing after that is reliable */
  push(chunk: Buffer): QmpMessage[];
}

/** @param maxLineBytes a longer line is refused, however it arrives */
export function createQmpParser(maxLineBytes = 1024 * 1024): QmpParser {
  let rest = Buffer.alloc(0);
  return {
    push(chunk) {
      const messages: QmpMessage[] = [];
      let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a)) {
        checkLength(end, maxLineBytes);
        const line = bytes.toString('utf8', 0, end).trim();
        if (line !== '') messages.push(parseQmpMessage(line));
        bytes = bytes.subarray(end + 1);
      }
      checkLength(bytes.length, maxLineBytes);
      rest = Buffer.from(bytes);
      return messages;
    },
  };
}

function checkLength(bytes: number, maxLineBytes: number): void {
  if (bytes > maxLineBytes) throw new KilnError('INTERNAL', `QMP line of more than ${maxLineBytes} bytes`);
}

/** @throws INTERNAL where the line is not a QMP message */
export function parseQmpMessage(line: string): QmpMessage {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (error) {
    throw new KilnError('INTERNAL', `QMP line is no JSON: ${line.slice(0, 200)}`, {}, error);
  }
  const asEvent = event.safeParse(json);
  if (asEvent.success) return { kind: 'event', name: asEvent.data.event, data: asEvent.data.data ?? {} };
  const asSuccess = success.safeParse(json);
  if (asSuccess.success) return { kind: 'return', id: asSuccess.data.id, value: asSuccess.data.return };
  const asFailure = failure.safeParse(json);
  if (asFailure.success) {
    const { error, id } = asFailure.data;
    return { kind: 'error', id, class: error.class, description: error.desc };
  }
  const asGreeting = greeting.safeParse(json);
  if (asGreeting.success) {
    const { major, minor, micro } = asGreeting.data.QMP.version.qemu;
    return { kind: 'greeting', version: `${major}.${minor}.${micro}` };
  }
  throw new KilnError('INTERNAL', `QMP message of no known kind: ${line.slice(0, 200)}`);
}

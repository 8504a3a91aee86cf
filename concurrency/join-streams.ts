import type { Duplex } from 'node:stream';

/**
 * Moves bytes both ways until both directions have ended. An end is passed on as an end, so a side may still send after
 * the other has ended; any other ending (an error, a close before both directions have ended) closes
 * the other side.
 * @param onBytes told of bytes that one side has sent, as they are passed on
 */
export function joinStreams(a: Duplex, b: Duplex, onBytes?: (bytes: number) => void): void {
  carry(a, b, onBytes);
  carry(b, a, onBytes);
}

function carry(from: Duplex, to: Duplex, onBytes: ((bytes: number) => void) | undefined): void {
  from.on('error', () => to.destroy());
  from.once('close', () => {
    // After an orderly end the other side may still have bytes to send; `end` has already informed it.
    if (!from.readableEnded || !from.writableFinished) to.destroy();
  });
  if (from.destroyed) {
    to.destroy();
    return;
  }
  if (onBytes !== undefined) from.on('data', (chunk: Buffer) => onBytes(chunk.length));
  from.pipe(to);
}

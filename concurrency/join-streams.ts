import type { Duplex } from 'node:stream';

/**
 * Moves bytes both ways until both directions have ended. An end goes on as an end, so either side may still send when
 * the other has said all; what ends in any other way (an error, a close before both its directions are through) closes
 * the other side.
 */
export function joinStreams(a: Duplex, b: Duplex): void {
  carry(a, b);
  carry(b, a);
}

function carry(from: Duplex, to: Duplex): void {
  from.on('error', () => to.destroy());
  from.once('close', () => {
    // After an orderly end the other side may still have bytes to send; `end` has told it already.
    if (!from.readableEnded || !from.writableFinished) to.destroy();
  });
  if (from.destroyed) to.destroy();
  else from.pipe(to);
}

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { eitherSignal } from '../../concurrency/deadline.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import { Channel } from './channel.ts';
import type { Frame } from './frames.ts';
import { encodeAttach, FRAME, FrameReader, NONCE_BYTES, PROTOCOL_VERSION } from './frames.ts';
import { helloMessage, parseMessage } from './messages.ts';

const MAX_TAR_BYTES = 4 * 1024 ** 3;

export interface ConnectAgentOptions {
  /** Path of a unix socket, or a function that opens a connection. Used again if a connection ends before the hello. */
  readonly connect: string | ((signal: AbortSignal) => Promise<Duplex>);
  /** Time until the hello, over all tries. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
  /** How long the agent may take to answer one request later; default `deadlineMs`. */
  readonly requestMs?: number;
  /** Largest archive that is taken from the guest; default 4 GiB. */
  readonly maxTarBytes?: number;
  /** Pause before the next try to connect; default 20. */
  readonly retryMs?: number;
  /**
   * Whether the agent is certainly between two frames, as in a guest restored from its frozen state: then it need
   * not read some 36 KiB of filler before it answers. Only for the first request.
   */
  readonly betweenFrames?: boolean;
  /** A hello that has not come after this time is requested again, each time after twice the time; default 1000. */
  readonly helloRetryMs?: number;
}

/**
 * Attaches to an agent, in whatever state the wire is. Ends any older attach; what the guest runs goes on.
 * @throws AGENT_TIMEOUT without a hello in time, AGENT_PROTOCOL on a hello of another protocol, CANCELLED by signal.
 */
export async function connectAgent(options: ConnectAgentOptions): Promise<AgentChannel> {
  const deadline = AbortSignal.timeout(options.deadlineMs);
  const signal = eitherSignal(deadline, options.signal);
  let last: unknown;
  for (;;) {
    if (signal.aborted) throw gaveUp(options, last);
    try {
      return await attach(await openSocket(options.connect, signal), options, signal);
    } catch (error) {
      if (isKilnError(error, 'AGENT_PROTOCOL')) throw error;
      // An error that the end of the wait itself caused explains nothing.
      if (!signal.aborted) last = error;
      await delay(options.retryMs ?? 20, undefined, { signal }).catch(() => {});
    }
  }
}

function gaveUp(options: ConnectAgentOptions, last: unknown): KilnError {
  if (options.signal?.aborted === true) {
    return new KilnError('CANCELLED', 'Attaching to the guest agent was cancelled.', {}, options.signal.reason);
  }
  return new KilnError(
    'AGENT_TIMEOUT',
    `The guest agent did not say hello within ${options.deadlineMs} ms; the guest's console log may say why.`,
    { lastError: last instanceof Error ? last.message : 'none' },
    last,
  );
}

async function openSocket(connect: ConnectAgentOptions['connect'], signal: AbortSignal): Promise<Duplex> {
  if (typeof connect !== 'string') return connect(signal);
  const socket = connectSocket({ path: connect, allowHalfOpen: false });
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function attach(socket: Duplex, options: ConnectAgentOptions, signal: AbortSignal): Promise<AgentChannel> {
  const wait = new HelloWait(socket, options.helloRetryMs ?? 1000, options.betweenFrames ?? false);
  try {
    const { reader, frames } = await wait.frames(signal);
    const [first, ...rest] = frames;
    if (first?.type !== FRAME.hello)
      throw new KilnError('AGENT_PROTOCOL', 'The guest agent did not begin with a hello.');
    const hello = parseMessage(helloMessage, first.payload, 'hello');
    if (hello.protocol !== PROTOCOL_VERSION) {
      throw new KilnError(
        'AGENT_PROTOCOL',
        `The guest agent speaks protocol ${hello.protocol}, this host ${PROTOCOL_VERSION}: rebuild the guest image.`,
      );
    }
    wait.stop();
    const { requestMs = options.deadlineMs, maxTarBytes = MAX_TAR_BYTES } = options;
    return new Channel({ socket, reader, hello, first: rest, requestMs, maxTarBytes });
  } catch (error) {
    wait.stop();
    socket.on('error', () => {});
    socket.destroy();
    throw error;
  }
}

interface HelloFrames {
  readonly reader: FrameReader;
  readonly frames: readonly Frame[];
}

/**
 * Asks for the hello and waits for it, with a fresh nonce each time: only the answer to the latest request
 * counts, and the session of an earlier request is known to be over.
 */
class HelloWait {
  private readonly socket: Duplex;
  private retryMs: number;
  private midFrame: boolean;
  private reader = new FrameReader();
  private timer: NodeJS.Timeout | undefined;
  private forget = () => {};

  constructor(socket: Duplex, retryMs: number, betweenFrames: boolean) {
    this.socket = socket;
    this.retryMs = retryMs;
    this.midFrame = !betweenFrames;
  }

  frames(signal: AbortSignal): Promise<HelloFrames> {
    return new Promise((resolve, reject) => {
      const onData = (chunk: Buffer) => {
        try {
          const frames = this.reader.push(chunk);
          if (frames.length > 0) {
            this.socket.pause();
            this.stop();
            resolve({ reader: this.reader, frames });
          }
        } catch (error) {
          reject(error);
        }
      };
      const onEnd = () => reject(new Error('the connection ended before the hello'));
      const onAbort = () => reject(new Error('gave up waiting for the hello'));
      this.socket.on('data', onData).on('error', reject).on('end', onEnd).on('close', onEnd);
      signal.addEventListener('abort', onAbort, { once: true });
      this.forget = () => {
        this.socket.off('data', onData).off('error', reject).off('end', onEnd).off('close', onEnd);
        signal.removeEventListener('abort', onAbort);
      };
      this.ask();
    });
  }

  private ask(): void {
    const nonce = randomBytes(NONCE_BYTES);
    this.reader = new FrameReader(nonce);
    this.socket.write(encodeAttach(nonce, this.midFrame));
    this.midFrame = true;
    this.timer = setTimeout(() => this.ask(), this.retryMs);
    this.retryMs *= 2;
  }

  stop(): void {
    clearTimeout(this.timer);
    this.forget();
  }
}

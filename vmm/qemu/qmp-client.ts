import { connect, type Socket } from 'node:net';
import { inTime } from '../../concurrency/deadline.ts';
import { KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { createQmpParser, type QmpMessage } from './qmp-messages.ts';

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** One connection to a QEMU's control socket. QEMU serves one client at a time: close it once it is not needed. */
export interface QmpClient {
  /** Of QEMU, e.g. `7.2.22`. */
  readonly version: string;
  /** @returns the value of `return`. @throws INTERNAL where QEMU refuses, VMM_EXITED where it hangs up, TIMED_OUT */
  execute(command: string, options: { deadlineMs: number; arguments?: object }): Promise<unknown>;
  close(): void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/**
 * Connects, waits for the greeting and negotiates.
 * @throws TIMED_OUT where another client holds the socket or QEMU does not answer; VMM_EXITED where nobody listens
 */
export async function connectQmp(
  socketPath: string,
  options: { deadlineMs: number; onEvent?: (event: QmpEvent) => void },
): Promise<QmpClient> {
  const socket = connect({ path: socketPath });
  const session = new QmpSession(socket, socketPath, options.onEvent);
  try {
    const deadline = performance.now() + options.deadlineMs;
    const version = await session.within(session.greeted, options.deadlineMs, 'greeting');
    await session.execute('qmp_capabilities', { deadlineMs: Math.max(1, deadline - performance.now()) });
    return { version, execute: (command, request) => session.execute(command, request), close: () => session.close() };
  } catch (error) {
    session.close();
    throw error;
  }
}

class QmpSession {
  readonly greeted: Promise<string>;
  private readonly socket: Socket;
  private readonly path: string;
  private readonly onEvent: ((event: QmpEvent) => void) | undefined;
  private readonly parser = createQmpParser();
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private failure: Error | undefined;
  private greet: (version: string) => void = () => undefined;
  private refuse: (error: Error) => void = () => undefined;

  constructor(socket: Socket, path: string, onEvent: ((event: QmpEvent) => void) | undefined) {
    this.socket = socket;
    this.path = path;
    this.onEvent = onEvent;
    this.greeted = new Promise((resolve, reject) => {
      this.greet = resolve;
      this.refuse = reject;
    });
    this.greeted.catch(() => undefined);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', (error) => this.fail(connectionFailure(path, error)));
    socket.on('close', () => this.fail(new KilnError('VMM_EXITED', `QEMU closed its control socket ${path}`)));
  }

  execute(command: string, options: { deadlineMs: number; arguments?: object }): Promise<unknown> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    const request = { execute: command, id, ...(options.arguments && { arguments: options.arguments }) };
    this.socket.write(`${JSON.stringify(request)}\n`);
    return this.within(answer, options.deadlineMs, command).finally(() => this.waiting.delete(id));
  }

  /** The answer, or TIMED_OUT. */
  within<T>(answer: Promise<T>, deadlineMs: number, what: string): Promise<T> {
    const late = () =>
      new KilnError('TIMED_OUT', `QEMU at ${this.path} did not answer "${what}" within ${deadlineMs} ms`);
    return inTime(answer, deadlineMs, late);
  }

  close(): void {
    this.socket.destroy();
  }

  private receive(chunk: Buffer): void {
    try {
      for (const message of this.parser.push(chunk)) this.handle(message);
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      this.socket.destroy();
    }
  }

  private handle(message: QmpMessage): void {
    switch (message.kind) {
      case 'greeting':
        this.greet(message.version);
        return;
      case 'event':
        this.onEvent?.({ name: message.name, data: message.data });
        return;
      case 'return':
        this.waiting.get(message.id)?.resolve(message.value);
        return;
      case 'error': {
        const failure = new KilnError('INTERNAL', `QEMU refused: ${message.description}`, { class: message.class });
        if (message.id === undefined) this.fail(failure);
        else this.waiting.get(message.id)?.reject(failure);
      }
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.refuse(error);
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

function connectionFailure(path: string, error: Error): KilnError {
  const gone = isErrno(error, 'ENOENT', 'ECONNREFUSED');
  return new KilnError(gone ? 'VMM_EXITED' : 'INTERNAL', `QEMU's control socket ${path}: ${error.message}`, {}, error);
}

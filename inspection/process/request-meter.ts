/** Compares what one request has used of its process with its limits. Pure: the caller takes the measurements. */

/** What a process has used since its start, and its memory now. */
export interface ProcessReading {
  readonly cpuMs: number;
  readonly rssBytes: number;
}

export interface RequestLimits {
  /** CPU time of all threads, ms. */
  readonly cpuMs: number;
  /** ms. */
  readonly wallMs: number;
}

export type LimitKind = 'cpu' | 'memory' | 'wall';

/** Longest time that counts between two measurements: in the rest of a longer gap this process itself did not run. */
const MAX_GAP_LOOKS = 4;

export class RequestMeter {
  private readonly limits: RequestLimits & { readonly rssBytes: number; readonly lookEveryMs: number };
  private begun: ProcessReading | undefined;
  private lastLookMs: number;
  private wallMs = 0;

  /**
   * @param limits `rssBytes`: memory that the process may have; `lookEveryMs`: time between two measurements
   * @param nowMs monotonic
   */
  constructor(limits: RequestLimits & { readonly rssBytes: number; readonly lookEveryMs: number }, nowMs: number) {
    this.limits = limits;
    this.lastLookMs = nowMs;
  }

  /**
   * @param reading undefined where the process could not be read: then only the time counts
   * @returns the limit that the request has exceeded, if any
   */
  look(nowMs: number, reading: ProcessReading | undefined): LimitKind | undefined {
    const { cpuMs, wallMs, rssBytes, lookEveryMs } = this.limits;
    this.wallMs += Math.min(nowMs - this.lastLookMs, MAX_GAP_LOOKS * lookEveryMs);
    this.lastLookMs = nowMs;
    this.begun ??= reading;
    if (reading !== undefined && reading.rssBytes > rssBytes) return 'memory';
    if (reading !== undefined && this.begun !== undefined && reading.cpuMs - this.begun.cpuMs > cpuMs) return 'cpu';
    return this.wallMs > wallMs ? 'wall' : undefined;
  }
}

/** What one request has taken of the process that works on it, held against its limits. Pure: the looks come from outside. */

/** What a process has used since its start, and has in memory now. */
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

/** Longest time that counts between two looks: the rest of a longer gap this process itself stood still. */
const MAX_GAP_LOOKS = 4;

export class RequestMeter {
  private readonly limits: RequestLimits & { readonly rssBytes: number; readonly lookEveryMs: number };
  private begun: ProcessReading | undefined;
  private lastLookMs: number;
  private wallMs = 0;

  /**
   * @param limits `rssBytes`: what the process may have in memory; `lookEveryMs`: from one look to the next
   * @param nowMs monotonic
   */
  constructor(limits: RequestLimits & { readonly rssBytes: number; readonly lookEveryMs: number }, nowMs: number) {
    this.limits = limits;
    this.lastLookMs = nowMs;
  }

  /**
   * @param reading undefined where the process could not be read: then its time alone counts
   * @returns the limit that the request has gone beyond, if any
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

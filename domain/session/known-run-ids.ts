/**
 * Every run id that a thread has ever used, by its SHA-256, in a size that a workflow can carry. "No" is certain. "Perhaps" has to be
 * looked up in the store before the run starts. Pure.
 */
import { hash64 } from '../hash64.ts';

/** Most ids that are kept as hashes of 64 bits. More go into a Bloom filter of the same size. */
export const MAX_EXACT_IDS = 20_000;

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
/** Digits of a hash of 64 bits, six bits each. */
const DIGITS = 11;
const FILTER_DIGITS = MAX_EXACT_IDS * DIGITS;
const FILTER_BITS = FILTER_DIGITS * 6;
/** Positions of one id in the filter. With 100,000 ids, one unknown id of about 500 is called "perhaps". */
const POSITIONS = 7;

/** As a workflow carries it: at most `MAX_EXACT_IDS * 11` characters of ASCII. */
export interface CarriedRunIds {
  /** `hashes`: 11 digits each. `filter`: six bits of the Bloom filter in each digit. */
  readonly form: 'hashes' | 'filter';
  readonly digits: string;
}

export const NO_RUN_IDS: CarriedRunIds = { form: 'hashes', digits: '' };

export class KnownRunIds {
  private readonly hashes: Set<string>;
  private filter: Uint8Array | undefined;

  /** @param carried what `carried` returned; it is trusted */
  constructor({ form, digits }: CarriedRunIds = NO_RUN_IDS) {
    this.hashes = new Set(form === 'hashes' ? inPieces(digits, DIGITS) : []);
    if (form === 'filter') this.filter = Uint8Array.from(digits, (digit) => ALPHABET.indexOf(digit));
  }

  add(runId: string): void {
    const hash = hash64(runId);
    if (this.filter !== undefined) mark(this.filter, hash);
    else this.hashes.add(digitsOf(hash));
    if (this.hashes.size > MAX_EXACT_IDS) this.toFilter();
  }

  /** @returns false only where the id was never added */
  mayHave(runId: string): boolean {
    const hash = hash64(runId);
    return this.filter === undefined ? this.hashes.has(digitsOf(hash)) : isMarked(this.filter, hash);
  }

  carried(): CarriedRunIds {
    if (this.filter === undefined) return { form: 'hashes', digits: [...this.hashes].join('') };
    return { form: 'filter', digits: Array.from(this.filter, (value) => ALPHABET[value]).join('') };
  }

  private toFilter(): void {
    this.filter = new Uint8Array(FILTER_DIGITS);
    for (const digits of this.hashes) mark(this.filter, hashOf(digits));
    this.hashes.clear();
  }
}

type Hash = readonly [high: number, low: number];

function digitsOf([high, low]: Hash): string {
  let rest = (BigInt(high) << 32n) | BigInt(low);
  let digits = '';
  for (let n = 0; n < DIGITS; n++) {
    digits += ALPHABET[Number(rest & 63n)];
    rest >>= 6n;
  }
  return digits;
}

function hashOf(digits: string): Hash {
  let value = 0n;
  for (const digit of [...digits].reverse()) value = (value << 6n) | BigInt(ALPHABET.indexOf(digit));
  return [Number(value >> 32n), Number(value & 0xffff_ffffn)];
}

/** Places of an id in the filter, all from its one hash. */
function positionsOf([high, low]: Hash): number[] {
  // Odd, so that the places of one id differ.
  const step = (low | 1) >>> 0;
  return Array.from({ length: POSITIONS }, (_, n) => (high + n * step) % FILTER_BITS);
}

function mark(filter: Uint8Array, hash: Hash): void {
  for (const position of positionsOf(hash)) {
    const at = Math.floor(position / 6);
    filter[at] = (filter[at] ?? 0) | (1 << (position % 6));
  }
}

function isMarked(filter: Uint8Array, hash: Hash): boolean {
  return positionsOf(hash).every((position) => ((filter[Math.floor(position / 6)] ?? 0) >> (position % 6)) & 1);
}

function inPieces(text: string, length: number): string[] {
  return Array.from({ length: Math.floor(text.length / length) }, (_, n) => text.slice(n * length, (n + 1) * length));
}

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { z } from 'zod';

/** One flight as it lies in the data set: 20,000 flights within the USA in 2001, published with vega-datasets. */
export const RawFlight = z.object({
  date: z.string().regex(/^\d{4}\/\d{2}\/\d{2} \d{2}:\d{2}$/),
  delay: z.int(),
  distance: z.int().nonnegative(),
  origin: z.string().length(3),
  destination: z.string().length(3),
});
export type RawFlight = z.infer<typeof RawFlight>;

const FILE = 'flights-20k.json';

/** The whole data set, unchecked. */
export function readDataSet(): { readonly rows: readonly unknown[]; readonly sha256: string } {
  const root = dirname(createRequire(import.meta.url).resolve('vega-datasets'));
  const bytes = readFileSync(join(root, '..', 'data', FILE));
  return {
    rows: JSON.parse(bytes.toString('utf8')) as unknown[],
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

/** A flight as it goes into the table. */
export interface Flight {
  /** Position in the data set, from 0. */
  readonly rowNumber: number;
  readonly departedAt: string;
  readonly delayMin: number;
  readonly distanceKm: number;
  readonly origin: string;
  readonly destination: string;
}

/** @param raw a checked row */
export function toFlight(raw: RawFlight, rowNumber: number): Flight {
  const [day, time] = raw.date.split(' ') as [string, string];
  return {
    rowNumber,
    departedAt: `${day.replaceAll('/', '-')}T${time}:00Z`,
    delayMin: raw.delay,
    distanceKm: Math.round(raw.distance * 1.609344),
    origin: raw.origin,
    destination: raw.destination,
  };
}

/** What one origin airport amounts to. */
export interface OriginTotal {
  readonly origin: string;
  readonly flights: number;
  readonly delayMin: number;
  readonly distanceKm: number;
}

/** The same aggregate that the workflow computes in SQL, computed directly. */
export function totalsByOrigin(flights: readonly Flight[]): OriginTotal[] {
  const totals = new Map<string, OriginTotal>();
  for (const { origin, delayMin, distanceKm } of flights) {
    const total = totals.get(origin) ?? { origin, flights: 0, delayMin: 0, distanceKm: 0 };
    totals.set(origin, {
      origin,
      flights: total.flights + 1,
      delayMin: total.delayMin + delayMin,
      distanceKm: total.distanceKm + distanceKm,
    });
  }
  return [...totals.values()].sort((a, b) => (a.origin < b.origin ? -1 : 1));
}

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** One of 3,364 airports of the states and territories of the USA, published with vega-datasets. */
export interface Airport {
  readonly code: string;
  readonly state: string;
  readonly latitude: number;
  readonly longitude: number;
}

export function readAirports(): Airport[] {
  const root = dirname(createRequire(import.meta.url).resolve('vega-datasets'));
  const [, ...lines] = readFileSync(join(root, '..', 'data', 'airports.csv'), 'utf8')
    .trim()
    .split(/\r?\n/);
  const airports = lines.map((line) => {
    // Names of airports may have commas in quotes; the columns from the state on have none.
    const columns = line.split(',');
    const [state, , latitude, longitude] = columns.slice(-4) as [string, string, string, string];
    return { code: columns[0] as string, state, latitude: Number(latitude), longitude: Number(longitude) };
  });
  // Without those of islands that belong to no state.
  return airports.filter(({ state }) => state !== 'NA');
}

/** The two airports of a state that are farthest apart. */
export interface Farthest {
  readonly state: string;
  readonly airports: number;
  readonly from: string;
  readonly to: string;
  readonly km: number;
}

export function farthestOf(state: string, airports: readonly Airport[]): Farthest {
  let best: Farthest = { state, airports: airports.length, from: '', to: '', km: 0 };
  for (const [index, a] of airports.entries()) {
    for (const b of airports.slice(index + 1)) {
      const km = Math.round(distanceKm(a, b));
      if (km > best.km) best = { ...best, from: a.code, to: b.code, km };
    }
  }
  return best;
}

/** By the haversine formula. */
function distanceKm(a: Airport, b: Airport): number {
  const radians = (degrees: number) => (degrees * Math.PI) / 180;
  const half = (degrees: number) => Math.sin(radians(degrees) / 2) ** 2;
  const h =
    half(b.latitude - a.latitude) +
    Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * half(b.longitude - a.longitude);
  return 2 * 6_371 * Math.asin(Math.sqrt(h));
}

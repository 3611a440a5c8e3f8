import postgres from 'postgres';
import type { Flight, OriginTotal } from './data-set.js';

/** The table that the flights are loaded into; an application's own database. */
export class FlightTable {
  readonly #sql: postgres.Sql;

  constructor(url: string) {
    this.#sql = postgres(url, { max: 4, onnotice: () => undefined, connect_timeout: 2, backoff: () => 0.1 });
  }

  async create(): Promise<void> {
    await this.#sql`
      create table if not exists flights (
        row_number integer primary key, departed_at timestamptz not null, delay_min integer not null,
        distance_km integer not null, origin text not null, destination text not null)`;
    await this.#sql`create table if not exists load_log (row_number integer not null)`;
  }

  /** May be called again with the same flights: each row is written once, by its number. Every call is logged. */
  async load(flights: readonly Flight[]): Promise<number> {
    const rows = flights.map((flight) => ({
      row_number: flight.rowNumber,
      departed_at: flight.departedAt,
      delay_min: flight.delayMin,
      distance_km: flight.distanceKm,
      origin: flight.origin,
      destination: flight.destination,
    }));
    await this.#sql.begin(async (sql) => {
      await sql`insert into flights ${sql(rows)} on conflict (row_number) do nothing`;
      await sql`insert into load_log (row_number) values (${rows[0]?.row_number ?? -1})`;
    });
    return rows.length;
  }

  async totalsByOrigin(): Promise<OriginTotal[]> {
    const rows = await this.#sql<OriginTotal[]>`
      select origin, count(*)::int as flights, sum(delay_min)::int as "delayMin", sum(distance_km)::int as "distanceKm"
      from flights group by origin order by origin collate "C"`;
    return rows.map((row) => ({ ...row }));
  }

  async rows(): Promise<Flight[]> {
    const rows = await this.#sql<Flight[]>`
      select row_number as "rowNumber", to_char(departed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "departedAt",
        delay_min as "delayMin", distance_km as "distanceKm", origin, destination
      from flights order by row_number`;
    return rows.map((row) => ({ ...row }));
  }

  /** How often a chunk was loaded: more often than there are chunks when a worker died between loading and recording. */
  async loads(): Promise<number> {
    const [row] = await this.#sql<{ n: number }[]>`select count(*)::int as n from load_log`;
    return row?.n ?? 0;
  }

  async close(): Promise<void> {
    await this.#sql.end({ timeout: 1 });
  }
}

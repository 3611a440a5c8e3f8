import { activity, workflow } from 'perdure';
import { type Farthest, farthestOf, readAirports } from './airports.js';

export const TASK_QUEUE = 'distances';
/** Served by workers of their own, for example on larger machines. */
export const MATH_QUEUE = 'math';

/** The map: one state. */
export const measure = activity('measure', (state: string) =>
  farthestOf(
    state,
    readAirports().filter((airport) => airport.state === state),
  ),
);

/** All states, the widest first. */
export const distances = workflow('distances', async (ctx): Promise<readonly Farthest[]> => {
  const states = await ctx.step('states', () => [...new Set(readAirports().map(({ state }) => state))].sort());
  const measured = await ctx.map(states, (state) =>
    ctx.call(measure, state, { name: `measure ${state}`, taskQueue: MATH_QUEUE }),
  );
  return measured.sort((a, b) => b.km - a.km);
});

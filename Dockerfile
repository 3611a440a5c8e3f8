# One image for every part: the command says which (server, reaper, migrate, or an example's worker).
FROM node:22-slim AS build
WORKDIR /app
COPY . .
RUN npx --yes pnpm@10 install --frozen-lockfile && npx --yes pnpm@10 build

FROM node:22-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app /app
USER node
# A larger young generation saves a busy server a tenth of its CPU time.
ENTRYPOINT ["node", "--max-semi-space-size=32", "--min-semi-space-size=32"]
CMD ["packages/cli/bin/perdure.js", "--help"]

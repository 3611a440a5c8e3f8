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
ENTRYPOINT ["node"]
CMD ["packages/cli/dist/main.js", "--help"]

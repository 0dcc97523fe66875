// Smoke check with KafkaJS. Prints one line a check: `ok - what`, `not ok - what: why`.
'use strict'

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { CompressionCodecs, CompressionTypes, Kafka, PartitionAssigners, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const snappy = require('kafkajs-snappy')
const zstd = require('@bokuweb/zstd-wasm')

const RUN_MS_MAX = 240_000
const address = process.argv[2] || process.env.BOOTSTRAP
if (!address) {
  console.error('usage: kafkajs_smoke.js HOST:PORT (or BOOTSTRAP=HOST:PORT)')
  process.exit(2)
}

const run = crypto.randomBytes(4).toString('hex')
const name = (what) => `smoke-kafkajs-${what}-${run}`
const kafka = new Kafka({ clientId: 'smoke', brokers: [address], logLevel: logLevel.NOTHING, retry: { retries: 8 } })
const admin = kafka.admin()
let failed = 0

function registerCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = snappy
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: (encoder) => lz4.compressFrame(encoder.buffer),
    decompress: (buffer) => lz4.decompressFrame(buffer),
  })
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer, 3)),
    decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
  })
}

async function check(what, action) {
  try {
    await action()
    console.log(`ok - ${what}`)
  } catch (why) {
    failed += 1
    console.log(`not ok - ${what}: ${String(why.message || why).replace(/\s+/g, ' ').slice(0, 300)}`)
  }
}

async function until(condition, what, ms = 30_000) {
  const deadline = Date.now() + ms
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function create(what, numPartitions = 1) {
  const topic = name(what)
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }] }), true)
  await until(async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions.length === numPartitions
  }, `${topic} has ${numPartitions} partitions`)
  return topic
}

async function produce(topic, messages, options = {}) {
  const producer = kafka.producer({ idempotent: options.idempotent, createPartitioner: () => ({ message }) => message.partition || 0 })
  await producer.connect()
  try {
    return await producer.send({ topic, acks: -1, messages, compression: options.compression })
  } finally {
    await producer.disconnect()
  }
}

// A member of a group; `seen` fills with its records, `owned` is what it was assigned last.
async function member(groupId, topic, options = {}) {
  const consumer = kafka.consumer({
    groupId, sessionTimeout: 10_000, heartbeatInterval: 300, rebalanceTimeout: 10_000, maxWaitTimeInMs: 200,
    partitionAssigners: [PartitionAssigners.roundRobin],
  })
  const state = { consumer, seen: [], owned: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    state.owned = payload.memberAssignment[topic] || []
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      if (options.max && state.seen.length >= options.max) return
      state.seen.push({ partition, message })
    },
  })
  return state
}

async function readTopic(topic, count) {
  const reader = await member(name(`reader-${crypto.randomBytes(3).toString('hex')}`), topic)
  try {
    await until(() => reader.seen.length >= count, `${count} records`)
    return reader.seen.map(({ message }) => message)
  } finally {
    await reader.consumer.disconnect()
  }
}

async function createTopic() {
  await create('create', 3)
}

async function codec(codecName, compression) {
  const topic = await create(codecName)
  const values = Array.from({ length: 200 }, (_, index) => `${codecName} ${index} `.repeat(20))
  const [acknowledged] = await produce(topic, values.map((value) => ({ key: 'k', value })), { compression })
  assert.equal(acknowledged.errorCode, 0)
  assert.equal(acknowledged.baseOffset, '0')
  const found = await readTopic(topic, 200)
  assert.deepEqual(found.map((message) => message.value.toString()), values)
  assert.deepEqual(found.map((message) => message.offset), values.map((_, index) => String(index)))
}

async function idempotent() {
  const topic = await create('idempotent')
  const values = Array.from({ length: 50 }, (_, index) => `v${index}`)
  await produce(topic, values.map((value) => ({ value })), { idempotent: true })
  assert.deepEqual((await readTopic(topic, 50)).map((message) => message.value.toString()), values)
}

async function headers() {
  const topic = await create('headers')
  await produce(topic, [{ value: 'v', headers: { a: ['1', '2'], empty: '' } }])
  const [message] = await readTopic(topic, 1)
  assert.deepEqual(message.headers.a.map(String), ['1', '2'])
  assert.equal(message.headers.empty.toString(), '')
}

async function nulls() {
  const topic = await create('nulls')
  await produce(topic, [{ value: 'v' }, { key: 'k', value: null }, { key: '', value: '' }])
  const found = await readTopic(topic, 3)
  const shown = (buffer) => (buffer === null ? null : buffer.toString())
  assert.deepEqual(found.map(({ key, value }) => [shown(key), shown(value)]), [[null, 'v'], ['k', null], ['', '']])
}

async function times() {
  const topic = await create('times')
  const base = Date.now() - 60_000
  for (let step = 0; step < 3; step += 1) await produce(topic, [{ value: 'v', timestamp: String(base + 1000 * step) }])
  const [ends] = await admin.fetchTopicOffsets(topic)
  assert.deepEqual([ends.low, ends.high], ['0', '3'])
  const at = async (timestamp) => (await admin.fetchTopicOffsetsByTimestamp(topic, timestamp))[0].offset
  assert.equal(await at(base), '0')
  assert.equal(await at(base + 500), '1')
  // KafkaJS gives the end of the partition for "none".
  assert.equal(await at(base + 5000), '3')
}

async function twoMembers() {
  const topic = await create('rebalance', 4)
  const group = name('rebalance')
  const first = await member(group, topic)
  await until(() => first.owned.length === 4, 'the first member owns all')
  const second = await member(group, topic)
  await until(() => first.owned.length === 2 && second.owned.length === 2, 'each member owns two')
  assert.deepEqual([...first.owned, ...second.owned].sort(), [0, 1, 2, 3])
  const messages = Array.from({ length: 40 }, (_, index) => ({ value: String(index), partition: index % 4 }))
  await produce(topic, messages)
  await until(() => first.seen.length + second.seen.length >= 40, 'both members read everything')
  const values = [...first.seen, ...second.seen].map(({ message }) => Number(message.value)).sort((a, b) => a - b)
  assert.deepEqual(values, messages.map((_, index) => index))
  await second.consumer.disconnect()
  await until(() => first.owned.length === 4, 'the member that stays owns all')
  await first.consumer.disconnect()
}

async function resume() {
  const topic = await create('resume')
  const group = name('resume')
  await produce(topic, Array.from({ length: 10 }, (_, index) => ({ value: String(index) })))
  const first = await member(group, topic, { max: 4 })
  await until(() => first.seen.length >= 4, '4 records')
  await first.consumer.commitOffsets([{ topic, partition: 0, offset: '4' }])
  await first.consumer.disconnect()
  const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  assert.equal(committed.partitions[0].offset, '4')
  const second = await member(group, topic)
  await until(() => second.seen.length >= 6, '6 records after the restart')
  assert.deepEqual(second.seen.map(({ message }) => message.offset), ['4', '5', '6', '7', '8', '9'])
  await second.consumer.disconnect()
}

async function deleteTopic() {
  const topic = await create('delete')
  await admin.deleteTopics({ topics: [topic] })
  await until(async () => !(await admin.listTopics()).includes(topic), 'the topic is gone')
}

async function main() {
  const watchdog = setTimeout(() => {
    console.log(`not ok - the whole run: not within ${RUN_MS_MAX} ms`)
    process.exit(1)
  }, RUN_MS_MAX)
  await zstd.init()
  registerCodecs()
  await admin.connect()
  await check('create topic', createTopic)
  const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }
  for (const [codecName, compression] of Object.entries(codecs)) {
    await check(`produce and consume with codec ${codecName}`, () => codec(codecName, compression))
  }
  await check('idempotent producer', idempotent)
  await check('headers', headers)
  await check('null keys and null values', nulls)
  await check('list offsets by time', times)
  await check('group of two rebalances', twoMembers)
  await check('commit and resume', resume)
  await check('delete topic', deleteTopic)
  await admin.disconnect()
  clearTimeout(watchdog)
  process.exit(failed ? 1 : 0)
}

main().catch((why) => {
  console.log(`not ok - the whole run: ${why.stack}`)
  process.exit(1)
})

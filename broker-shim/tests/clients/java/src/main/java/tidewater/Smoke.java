package tidewater;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Smoke check with the Java client. Prints one line a check: {@code ok - what}, {@code not ok - what: why}. */
public final class Smoke {
    private static final long RUN_SECONDS_MAX = 240;
    private static final Duration POLL = Duration.ofMillis(100);

    private final String address;
    private final String run = UUID.randomUUID().toString().substring(0, 8);
    private final Admin admin;
    private int failed;

    private Smoke(String address) {
        this.address = address;
        this.admin = Admin.create(Map.of("bootstrap.servers", address, "default.api.timeout.ms", 30000));
    }

    public static void main(String[] args) {
        String address = args.length > 0 ? args[0] : System.getenv("BOOTSTRAP");
        if (address == null) {
            System.err.println("usage: Smoke HOST:PORT (or BOOTSTRAP=HOST:PORT)");
            System.exit(2);
        }
        Thread watchdog = new Thread(() -> {
            sleep(TimeUnit.SECONDS.toMillis(RUN_SECONDS_MAX));
            System.out.println("not ok - the whole run: not within " + RUN_SECONDS_MAX + " s");
            Runtime.getRuntime().halt(1);
        });
        watchdog.setDaemon(true);
        watchdog.start();
        Smoke smoke = new Smoke(address);
        smoke.all();
        System.out.flush();
        Runtime.getRuntime().halt(smoke.failed > 0 ? 1 : 0);
    }

    private void all() {
        check("create topic", () -> create("create", 3));
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            check("produce and consume with codec " + codec, () -> codec(codec));
        }
        check("idempotent producer", this::idempotent);
        check("headers", this::headers);
        check("null keys and null values", this::nulls);
        check("list offsets by time", this::times);
        check("group of two rebalances", this::twoMembers);
        check("commit and resume", this::resume);
        check("delete topic", this::deleteTopic);
    }

    private interface Action {
        void run() throws Exception;
    }

    private void check(String what, Action action) {
        try {
            action.run();
            System.out.println("ok - " + what);
        } catch (Exception | AssertionError why) {
            failed++;
            System.out.println("not ok - " + what + ": " + String.valueOf(why).replaceAll("\\s+", " "));
        }
    }

    private static void expect(Object found, Object expected, String what) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError(what + ": expected " + expected + ", found " + found);
        }
    }

    private static void until(BooleanSupplier condition, String what) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within 30 s: " + what);
            }
            sleep(20);
        }
    }

    private static void sleep(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private String name(String what) {
        return "smoke-java-" + what + "-" + run;
    }

    private String create(String what, int partitions) throws Exception {
        String topic = name(what);
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get(30, TimeUnit.SECONDS);
        until(() -> partitionCount(topic) == partitions, topic + " has " + partitions + " partitions");
        return topic;
    }

    private int partitionCount(String topic) {
        try {
            return admin.describeTopics(List.of(topic)).allTopicNames().get(30, TimeUnit.SECONDS).get(topic).partitions().size();
        } catch (Exception e) {
            return -1;
        }
    }

    /** Sends in order, and returns what was acknowledged. */
    private List<RecordMetadata> produce(List<ProducerRecord<byte[], byte[]>> records, Map<String, Object> config) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(config)) {
            return send(producer, records);
        }
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> config) {
        Properties all = new Properties();
        all.put("bootstrap.servers", address);
        all.put("acks", "all");
        all.put("enable.idempotence", false);
        all.putAll(config);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static List<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        var sent = records.stream().map(producer::send).toList();
        producer.flush();
        List<RecordMetadata> acknowledged = new ArrayList<>();
        for (var one : sent) {
            acknowledged.add(one.get(30, TimeUnit.SECONDS));
        }
        return acknowledged;
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group) {
        Properties all = new Properties();
        all.put("bootstrap.servers", address);
        all.put("auto.offset.reset", "earliest");
        all.put("enable.auto.commit", false);
        all.put("session.timeout.ms", 10000);
        all.put("heartbeat.interval.ms", 300);
        if (group != null) {
            all.put("group.id", group);
        }
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        until(() -> {
            consumer.poll(POLL).forEach(found::add);
            return found.size() >= count;
        }, count + " records");
        return found;
    }

    /** Reads partition 0 from the start without a group. */
    private List<ConsumerRecord<byte[], byte[]>> readTopic(String topic, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            return read(consumer, count);
        }
    }

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    private static List<ProducerRecord<byte[], byte[]>> numbered(String topic, int count, int partitions) {
        return IntStream.range(0, count).mapToObj(index -> new ProducerRecord<byte[], byte[]>(topic, index % partitions, null, bytes(String.valueOf(index)))).toList();
    }

    private void codec(String codec) throws Exception {
        String topic = create(codec, 1);
        List<String> values = IntStream.range(0, 200).mapToObj(index -> (codec + " " + index + " ").repeat(20)).toList();
        try (KafkaProducer<byte[], byte[]> producer = producer(Map.of("compression.type", codec, "linger.ms", 20))) {
            var acknowledged = send(producer, values.stream().map(value -> new ProducerRecord<>(topic, 0, bytes("k"), bytes(value))).toList());
            expect(acknowledged.stream().map(RecordMetadata::offset).toList(), IntStream.range(0, 200).mapToObj(Long::valueOf).toList(), "acknowledged offsets");
            expect(compressionRate(producer) < 0.9, !codec.equals("none"), "batches are compressed");
        }
        expect(readTopic(topic, 200).stream().map(one -> text(one.value())).toList(), values, "values");
    }

    private static double compressionRate(KafkaProducer<byte[], byte[]> producer) {
        return producer.metrics().values().stream().filter(metric -> metric.metricName().name().equals("compression-rate-avg") && metric.metricName().group().equals("producer-metrics"))
            .mapToDouble(metric -> (Double) metric.metricValue()).findFirst().orElseThrow();
    }

    private void idempotent() throws Exception {
        String topic = create("idempotent", 1);
        produce(numbered(topic, 500, 1), Map.of("enable.idempotence", true, "batch.size", 100));
        expect(readTopic(topic, 500).stream().map(one -> Integer.valueOf(text(one.value()))).toList(), IntStream.range(0, 500).boxed().toList(), "values");
    }

    private void headers() throws Exception {
        String topic = create("headers", 1);
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, null, bytes("v"));
        record.headers().add("a", bytes("1")).add("a", bytes("2")).add("empty", bytes("")).add("null", null);
        produce(List.of(record), Map.of());
        List<String> found = new ArrayList<>();
        for (Header header : readTopic(topic, 1).get(0).headers()) {
            found.add(header.key() + "=" + text(header.value()));
        }
        expect(found, List.of("a=1", "a=2", "empty=", "null=null"), "headers");
    }

    private void nulls() throws Exception {
        String topic = create("nulls", 1);
        produce(List.of(new ProducerRecord<>(topic, 0, null, bytes("v")), new ProducerRecord<>(topic, 0, bytes("k"), null), new ProducerRecord<>(topic, 0, bytes(""), bytes(""))), Map.of());
        var found = readTopic(topic, 3).stream().map(one -> Arrays.asList(text(one.key()), text(one.value()))).toList();
        expect(found, List.of(Arrays.asList(null, "v"), Arrays.asList("k", null), Arrays.asList("", "")), "keys and values");
    }

    private void times() throws Exception {
        String topic = create("times", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        long base = System.currentTimeMillis() - 60_000;
        for (int step = 0; step < 3; step++) {
            produce(List.of(new ProducerRecord<>(topic, 0, base + 1000L * step, null, bytes("v"))), Map.of());
        }
        expect(listed(partition, OffsetSpec.earliest()), 0L, "earliest offset");
        expect(listed(partition, OffsetSpec.latest()), 3L, "latest offset");
        expect(listed(partition, OffsetSpec.maxTimestamp()), 2L, "offset of the maximum timestamp");
        expect(listed(partition, OffsetSpec.forTimestamp(base)), 0L, "offset at the first timestamp");
        expect(listed(partition, OffsetSpec.forTimestamp(base + 500)), 1L, "offset between timestamps");
        expect(listed(partition, OffsetSpec.forTimestamp(base + 5000)), -1L, "offset past the last timestamp");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null)) {
            var found = consumer.offsetsForTimes(Map.of(partition, base + 500)).get(partition);
            expect(found.offset(), 1L, "the consumer's offset between timestamps");
            expect(found.timestamp(), base + 1000, "its timestamp");
        }
    }

    private long listed(TopicPartition partition, OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get(30, TimeUnit.SECONDS).offset();
    }

    private static Set<Integer> owned(KafkaConsumer<byte[], byte[]> member) {
        return member.assignment().stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
    }

    private void twoMembers() throws Exception {
        String topic = create("rebalance", 4);
        List<Integer> found = new ArrayList<>();
        KafkaConsumer<byte[], byte[]> first = consumer(name("rebalance"));
        KafkaConsumer<byte[], byte[]> second = consumer(name("rebalance"));
        try (first) {
            try (second) {
                first.subscribe(List.of(topic));
                until(() -> polled(List.of(first), found, () -> owned(first).size() == 4), "the first member owns all");
                second.subscribe(List.of(topic));
                var both = List.of(first, second);
                until(() -> polled(both, found, () -> owned(first).size() == 2 && owned(second).size() == 2), "each member owns two");
                Set<Integer> all = new TreeSet<>(owned(first));
                all.addAll(owned(second));
                expect(all, Set.of(0, 1, 2, 3), "partitions of both");
                produce(numbered(topic, 40, 4), Map.of());
                until(() -> polled(both, found, () -> found.size() >= 40), "both members read everything");
                expect(found.stream().sorted().toList(), IntStream.range(0, 40).boxed().toList(), "records of both");
            }
            until(() -> polled(List.of(first), found, () -> owned(first).size() == 4), "the member that stays owns all");
        }
    }

    private static boolean polled(Collection<KafkaConsumer<byte[], byte[]>> members, List<Integer> found, BooleanSupplier condition) {
        for (KafkaConsumer<byte[], byte[]> member : members) {
            member.poll(POLL).forEach(record -> found.add(Integer.valueOf(text(record.value()))));
        }
        return condition.getAsBoolean();
    }

    private void resume() throws Exception {
        String topic = create("resume", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(numbered(topic, 10, 1), Map.of());
        try (KafkaConsumer<byte[], byte[]> first = consumer(name("resume"))) {
            first.subscribe(List.of(topic));
            expect(read(first, 4).get(0).offset(), 0L, "first offset");
            first.commitSync(Map.of(partition, new OffsetAndMetadata(4)));
        }
        try (KafkaConsumer<byte[], byte[]> second = consumer(name("resume"))) {
            second.subscribe(List.of(topic));
            var offsets = read(second, 6).stream().map(ConsumerRecord::offset).toList();
            expect(offsets, List.of(4L, 5L, 6L, 7L, 8L, 9L), "offsets after the restart");
            expect(second.committed(Set.of(partition)).get(partition).offset(), 4L, "committed offset");
        }
    }

    private void deleteTopic() throws Exception {
        String topic = create("delete", 1);
        admin.deleteTopics(List.of(topic)).all().get(30, TimeUnit.SECONDS);
        until(() -> {
            try {
                return !admin.listTopics().names().get(30, TimeUnit.SECONDS).contains(topic);
            } catch (Exception e) {
                return false;
            }
        }, "the topic is gone");
    }
}

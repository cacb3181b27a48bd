// One index of another library, asked as `ruvllm bench ann` asks ours: bench/ann.sh compiles this once per library (-DHNSWLIB,
// -DFAISS, -DUSEARCH) and once with -DTRUTH, which writes what an exact search finds.
//
//   ann_peer INDEX BASE.fvecs QUERIES.fvecs TRUTH.ivecs EFS [THREADS [ATTR.u32 BELOW]]
//   ann_peer --build BASE.fvecs THREADS                     builds and prints the time only
//   ann_peer BASE.fvecs QUERIES.fvecs OUT.ivecs             (-DTRUTH) the 100 nearest by squared distance
//
// INDEX is made and saved when it is not there. M 32 (64 on the lowest layer), 200 candidates while building, squared distances.
// JSON lines with the names of `bench ann`; qps is per CPU second of one thread. A hit counts when it is as near as the tenth.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

struct vectors {
    size_t n = 0, dim = 0;
    std::vector<uint32_t> bits; // float32 or int32, [n][dim]
    const float *row(size_t i) const { return reinterpret_cast<const float *>(bits.data()) + i * dim; }
    int32_t id(size_t i, size_t j) const { return static_cast<int32_t>(bits[i * dim + j]); }
};

static vectors read_vecs(const char *path)
{
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    if (!in) {
        throw std::runtime_error(std::string(path) + ": cannot be read");
    }
    size_t bytes = static_cast<size_t>(in.tellg());
    uint32_t dim = 0;
    in.seekg(0).read(reinterpret_cast<char *>(&dim), 4);
    if (dim == 0 || bytes % (4 + 4 * size_t(dim)) != 0) {
        throw std::runtime_error(std::string(path) + ": not a file of vectors");
    }
    vectors v;
    v.dim = dim;
    v.n = bytes / (4 + 4 * v.dim);
    v.bits.resize(v.n * v.dim);
    for (size_t i = 0; i < v.n; i++) {
        uint32_t skipped;
        if (i > 0) {
            in.read(reinterpret_cast<char *>(&skipped), 4);
        }
        in.read(reinterpret_cast<char *>(v.bits.data() + i * v.dim), std::streamsize(4 * v.dim));
    }
    return v;
}

static double squared(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        double x = double(a[d]) - double(b[d]);
        sum += x * x;
    }
    return sum;
}

static double seconds(clockid_t clock)
{
    timespec t;
    clock_gettime(clock, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

#if defined(TRUTH)

int main(int argc, char **argv)
try {
    if (argc != 4) {
        throw std::runtime_error("usage: BASE QUERIES OUT");
    }
    const vectors base = read_vecs(argv[1]), queries = read_vecs(argv[2]);
    const size_t k = std::min<size_t>(100, base.n);
    std::vector<int32_t> out(queries.n * (k + 1));
    std::atomic<size_t> next{ 0 };
    auto work = [&] {
        std::vector<std::pair<double, int32_t>> all(base.n);
        for (size_t q; (q = next++) < queries.n;) {
            for (size_t i = 0; i < base.n; i++) {
                all[i] = { squared(base.row(i), queries.row(q), base.dim), int32_t(i) };
            }
            std::partial_sort(all.begin(), all.begin() + long(k), all.end());
            out[q * (k + 1)] = int32_t(k);
            for (size_t j = 0; j < k; j++) {
                out[q * (k + 1) + 1 + j] = all[j].second;
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); t++) {
        threads.emplace_back(work);
    }
    for (auto &t : threads) {
        t.join();
    }
    std::ofstream file(argv[3], std::ios::binary);
    file.write(reinterpret_cast<const char *>(out.data()), std::streamsize(out.size() * 4));
    return file.flush() ? 0 : 1;
} catch (const std::exception &e) {
    fprintf(stderr, "ann_peer: %s\n", e.what());
    return 1;
}

#else

// ---- what each library has to do: build, save, open, ask ----

#if defined(HNSWLIB)
#include <hnswlib/hnswlib.h>
static const char *const name = "hnswlib";
struct below : hnswlib::BaseFilterFunctor {
    const uint32_t *attr = nullptr;
    uint32_t limit = 0;
    bool operator()(hnswlib::labeltype id) override { return attr[id] < limit; }
};
struct peer {
    hnswlib::L2Space space;
    hnswlib::HierarchicalNSW<float> *graph = nullptr;
    below filter;
    explicit peer(size_t dim) : space(dim) {}
    void build(const vectors &v, int threads)
    {
        graph = new hnswlib::HierarchicalNSW<float>(&space, v.n, 32, 200);
        graph->addPoint(v.row(0), 0);
        std::atomic<size_t> next{ 1 };
        std::vector<std::thread> all;
        for (int t = 0; t < threads; t++) {
            all.emplace_back([&] {
                for (size_t i; (i = next++) < v.n;) {
                    graph->addPoint(v.row(i), i);
                }
            });
        }
        for (auto &t : all) {
            t.join();
        }
    }
    void save(const std::string &path) { graph->saveIndex(path); }
    void open(const std::string &path) { graph = new hnswlib::HierarchicalNSW<float>(&space, path); }
    void breadth(size_t ef) { graph->setEf(ef); }
    void ask(const float *query, size_t k, int64_t *ids)
    {
        auto heap = graph->searchKnn(query, k, filter.attr ? &filter : nullptr);
        for (size_t i = k; i-- > 0;) {
            ids[i] = -1;
            if (i < heap.size()) {
                ids[i] = int64_t(heap.top().second);
                heap.pop();
            }
        }
    }
    void only(const uint32_t *attr, uint32_t limit)
    {
        filter.attr = attr;
        filter.limit = limit;
    }
};
#elif defined(FAISS)
#include <faiss/IndexHNSW.h>
#include <faiss/index_io.h>
#include <omp.h>
static const char *const name = "faiss";
struct peer {
    size_t dim;
    faiss::IndexHNSW *graph = nullptr;
    explicit peer(size_t d) : dim(d) {}
    void build(const vectors &v, int threads)
    {
        omp_set_num_threads(threads);
        graph = new faiss::IndexHNSWFlat(int(dim), 32);
        graph->hnsw.efConstruction = 200;
        graph->add(long(v.n), v.row(0));
        omp_set_num_threads(1);
    }
    void save(const std::string &path) { faiss::write_index(graph, path.c_str()); }
    void open(const std::string &path)
    {
        omp_set_num_threads(1);
        graph = dynamic_cast<faiss::IndexHNSW *>(faiss::read_index(path.c_str()));
    }
    void breadth(size_t ef) { graph->hnsw.efSearch = int(ef); }
    void ask(const float *query, size_t k, int64_t *ids)
    {
        static thread_local std::vector<float> distances(1000);
        graph->search(1, query, long(k), distances.data(), ids);
    }
    void only(const uint32_t *, uint32_t) { throw std::runtime_error("faiss is not asked with a filter"); }
};
#elif defined(USEARCH)
#include <usearch/index_dense.hpp>
static const char *const name = "usearch";
struct peer {
    unum::usearch::index_dense_t index;
    explicit peer(size_t dim)
    {
        using namespace unum::usearch;
        index_dense_config_t config;
        config.connectivity = 32;
        config.connectivity_base = 64;
        config.expansion_add = 200;
        index = std::move(index_dense_t::make(metric_punned_t(dim, metric_kind_t::l2sq_k, scalar_kind_t::f32_k), config).index);
        fprintf(stderr, "usearch runs %s code\n", index.metric().isa_name());
    }
    void build(const vectors &v, int threads)
    {
        index.try_reserve(unum::usearch::index_limits_t(v.n, size_t(threads) + 1));
        std::atomic<size_t> next{ 0 };
        std::vector<std::thread> all;
        for (int t = 0; t < threads; t++) {
            all.emplace_back([&, t] {
                for (size_t i; (i = next++) < v.n;) {
                    index.add(i, v.row(i), size_t(t));
                }
            });
        }
        for (auto &t : all) {
            t.join();
        }
    }
    void save(const std::string &path) { index.save(path.c_str()); }
    void open(const std::string &path) { index.load(path.c_str()); }
    void breadth(size_t ef) { index.change_expansion_search(ef); }
    void ask(const float *query, size_t k, int64_t *ids)
    {
        static thread_local std::vector<uint64_t> keys(1000);
        size_t found = index.search(query, k, size_t(0)).dump_to(keys.data());
        for (size_t i = 0; i < k; i++) {
            ids[i] = i < found ? int64_t(keys[i]) : -1;
        }
    }
    void only(const uint32_t *, uint32_t) { throw std::runtime_error("usearch is not asked with a filter"); }
};
#else
#error "say which: -DHNSWLIB, -DFAISS, -DUSEARCH or -DTRUTH"
#endif

// ---- asking ----

enum { K = 10, PASSES_LEAST = 3, PASSES_MOST = 15 };

static double built_in(peer &p, const vectors &base, int threads)
{
    double from = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    p.build(base, threads);
    double took = seconds(CLOCK_MONOTONIC) - from;
    printf("{\"index\": \"%s\", \"threads\": %d, \"n\": %zu, \"build_s\": %.3f, \"build_cpu_s\": %.3f}\n", name, threads,
           base.n, took, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    fflush(stdout);
    return took;
}

static void measure(peer &p, const vectors &base, const vectors &queries, const vectors &truth, size_t ef)
{
    std::vector<int64_t> ids(queries.n * K);
    double spent = 0, best = 0, best_wall = 0;
    p.breadth(ef);
    for (int pass = 0; pass < PASSES_MOST && (pass < PASSES_LEAST || spent < 0.5) && spent < 1.5; pass++) {
        double from = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
        for (size_t q = 0; q < queries.n; q++) {
            p.ask(queries.row(q), K, &ids[q * K]);
        }
        double took = seconds(CLOCK_MONOTONIC) - from;
        spent += took;
        best = std::max(best, double(queries.n) / (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu));
        best_wall = std::max(best_wall, double(queries.n) / took);
    }
    size_t hit = 0, all = 0;
    for (size_t q = 0; q < queries.n; q++) {
        size_t want = 0;
        while (want < K && truth.id(q, want) >= 0) {
            want++;
        }
        if (want == 0) {
            continue;
        }
        double last = squared(queries.row(q), base.row(size_t(truth.id(q, want - 1))), base.dim);
        size_t near = 0;
        for (size_t i = 0; i < K; i++) {
            int64_t id = ids[q * K + i];
            near += id >= 0 && squared(queries.row(q), base.row(size_t(id)), base.dim) <= last * (1 + 1e-6) + 1e-12;
        }
        hit += std::min(near, want);
        all += want;
    }
    printf("{\"index\": \"%s\", \"ef\": %zu, \"k\": %d, \"threads\": 1, \"recall@10\": %.5f, \"qps\": %.1f, \"wall_qps\": %.1f}\n",
           name, ef, K, all ? double(hit) / double(all) : 1, best, best_wall);
    fflush(stdout);
}

int main(int argc, char **argv)
try {
    if (argc == 4 && std::string(argv[1]) == "--build") {
        const vectors base = read_vecs(argv[2]);
        peer p(base.dim);
        built_in(p, base, atoi(argv[3]));
        return 0;
    }
    if (argc != 6 && argc != 7 && argc != 9) {
        throw std::runtime_error("usage: INDEX BASE QUERIES TRUTH EFS [THREADS [ATTR BELOW]]");
    }
    const vectors base = read_vecs(argv[2]), queries = read_vecs(argv[3]), truth = read_vecs(argv[4]);
    peer p(base.dim);
    if (access(argv[1], R_OK) == 0) {
        p.open(argv[1]);
    } else {
        built_in(p, base, argc > 6 ? atoi(argv[6]) : 1);
        const std::string part = std::string(argv[1]) + ".part";
        p.save(part);
        if (rename(part.c_str(), argv[1]) != 0) {
            throw std::runtime_error("the index cannot be saved");
        }
    }
    std::vector<uint32_t> attr(base.n);
    if (argc == 9) {
        std::ifstream(argv[7], std::ios::binary).read(reinterpret_cast<char *>(attr.data()), std::streamsize(4 * base.n));
        p.only(attr.data(), uint32_t(atoi(argv[8])));
    }
    for (const char *at = argv[5]; *at;) {
        char *end;
        size_t ef = strtoul(at, &end, 10);
        if (ef == 0) {
            break;
        }
        measure(p, base, queries, truth, ef);
        at = *end ? end + 1 : end;
    }
    return 0;
} catch (const std::exception &e) {
    fprintf(stderr, "ann_peer: %s\n", e.what());
    return 1;
}
#endif

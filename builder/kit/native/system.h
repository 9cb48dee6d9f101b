// What the files of this folder ask of the operating system; the files system_*.cpp answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

// --- the process ---------------------------------------------------------------------------------------------------------

// To be called first: arguments in UTF-8 in place of those that main was given, and crashes that wait for nobody.
void mkllm_prepare_process(int & argc, char **& argv);

// What is written to standard output from here on arrives byte by byte as it is written.
void mkllm_binary_output();

// An environment variable in UTF-8, removed from the environment; none when it is not set.
std::optional<std::string> mkllm_take_variable(const char * name);

// Between the paths of a list in a variable.
extern const char MKLLM_SEPARATOR;

// A thread that no signal disturbs; 0 or the number of an error.
int mkllm_start_thread(void (*work)(int), int argument);

// How a module is named to llama.cpp so that it is found whatever letters its path has.
std::string mkllm_module_name(const std::string & path);

// Processors that this process may use; 1 when it is not said.
unsigned mkllm_processors_allowed();

// Bytes of memory that are free, for this process and for the container that it may run in; all where it is not said.
uint64_t mkllm_free_memory();

// --- files: a descriptor, errno -----------------------------------------------------------------------------------------

// The descriptor for what this process was given as `number` (a descriptor, on Windows a handle), which stays in this
// process from here on; -1 when that is not open.
int mkllm_inherited(long long number);

int64_t mkllm_file_size(int fd);  // -1 when it has none

// The same file with a position of its own, at `offset`; null when it cannot be opened.
FILE * mkllm_reopen(int fd, int64_t offset);

// Bytes read or written, fewer than asked for at times; -1 for an error.
int64_t mkllm_read_at(int fd, char * data, size_t size, int64_t offset);
int64_t mkllm_write_at(int fd, const char * data, size_t size, int64_t offset);
int64_t mkllm_write(int fd, const char * data, size_t size);

// Likewise, but a reader that went away is an error and no signal.
int64_t mkllm_write_quietly(int fd, const char * data, size_t size);

// A file that is in memory alone, as far as the system has such; -1 when there is none to be had. What is punched out of it
// need not be kept.
int mkllm_memory_file();
void mkllm_punch(int fd, int64_t begin, int64_t end);

// --- memory -------------------------------------------------------------------------------------------------------------

size_t mkllm_page();
size_t mkllm_granularity();  // where in a file a mapping may begin

// `offset` is a multiple of the granularity; null when it cannot be mapped.
void * mkllm_map(int fd, int64_t offset, size_t size);
void mkllm_unmap(void * begin, size_t size);

// Addresses; what lies there is to be committed before it is written, and can be forgotten by whole pages. Null for none.
void * mkllm_reserve(size_t size);
bool mkllm_commit(void * begin, size_t size);
void mkllm_forget(void * begin, size_t size);
void mkllm_release(void * begin, size_t size);

// Wishes.
void mkllm_wish_huge_pages(void * begin, size_t size);
void mkllm_wish_locked(void * begin, size_t size);

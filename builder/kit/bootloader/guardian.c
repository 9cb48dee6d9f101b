/* A home that is removed at the end: a child runs the program in it, and this process, the guardian, waits, passes signals on,
 * removes the home and ends as the child did. The child is forked before anything is extracted, so that there is no moment
 * at which killing either process leaves files behind. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry.h"

struct ward {
    int base, folder, home;   /* the place, our folder in it, the home in that */
    char name[NAME_MAX];      /* of our folder */
    int life[2];              /* a pipe: the guardian holds the end for writing */
    volatile int *error;      /* in memory shared with the child: why it could not fill the home */
};

static pid_t guardian;

static bool is_orphan(void)
{
    return getppid() != guardian;
}

static int *shared_number(void)
{
    void *page = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NULL : page;
}

/* PyInstaller requires the name to hold the parent's process number when the program is elevated, and always 18 letters. */
static bool make_folders(struct ward *ward, struct home *home, const struct place *place)
{
    char prefix[32], name[24];
    snprintf(prefix, sizeof prefix, "mkllm-%d-", (int)getpid());
    ward->folder = tree_create(ward->base, ward->name, prefix, "");
    if (ward->folder < 0)
        return false;
    snprintf(name, sizeof name, "_MEI%08x%06x", (unsigned)getpid(), random_part());
    const char *slash = place->path[1] ? "/" : "";
    snprintf(home->path, sizeof home->path, "%s%s%s/%s", place->path, slash, ward->name, name);
    if (mkdirat(ward->folder, name, 0700) != 0)
        return false;
    ward->home = openat(ward->folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return ward->home >= 0;
}

/* In the child: fills the home and returns, or ends and leaves the reason to the guardian. */
static bool move_in(struct ward *ward, struct home *home, const struct archive *archive, bool memory)
{
    signals_release();
    close(ward->life[1]);
    int error = (memory ? fill_memory : fill_files)(ward->home, archive, is_orphan);
    if (error) {
        if (is_orphan())
            tree_remove(ward->base, ward->name);
        *ward->error = error;
        _exit(0);
    }
    close(ward->base);
    close(ward->home); /* the folder's stays open: it is the lock */
    home->kind = memory ? "memory" : "temporary";
    home->guardian = ward->life[0];
    return true;
}

/* In the guardian: returns the child's wait status when it has ended. */
static int stand_guard(pid_t child)
{
    int status;
    for (;;) {
        int number = signals_next();
        if (number == SIGCHLD && waitpid(child, &status, WNOHANG) == child)
            return status;
        if (number > 0 && number != SIGCHLD)
            kill(child, number);
    }
}

static void release(struct ward *ward)
{
    int error = errno;
    tree_remove(ward->base, ward->name);
    for (int *fd = (int[]){ward->folder, ward->home, ward->life[0], ward->life[1], ward->base, -2}; *fd != -2; fd++)
        if (*fd >= 0)
            close(*fd);
    errno = error;
}

static bool guard(struct ward *ward, struct home *home, struct place *place, const struct archive *archive, bool memory)
{
    guardian = getpid();
    pid_t child = fork();
    if (child == 0)
        return move_in(ward, home, archive, memory);
    if (child < 0) {
        place_refused(place, errno);
        release(ward);
        return false;
    }
    close(ward->life[0]);
    ward->life[0] = -1;
    int status = stand_guard(child);
    release(ward);
    if (!*ward->error)
        signals_end_as(status);
    return place_refused(place, *ward->error);
}

/* Makes a home at this place that ends with the program. Returns true in the process that is to run it; false with the reason
 * kept when the place does not serve; not at all in the guardian of a program that ran. */
bool guarded_home(struct home *home, struct place *place, const struct archive *archive, bool memory, uint64_t room)
{
    static bool checked;
    struct ward ward = {.base = place_open(place, !memory), .folder = -1, .home = -1, .life = {-1, -1}};
    if (ward.base < 0 || (!memory && !place_has_room(place, ward.base, room)))
        return false;
    if (!checked)
        archive_check(archive, NULL);
    checked = true;
    ward.error = shared_number();
    tree_sweep_temporary(ward.base);
    signals_hold();
    if (ward.error && make_folders(&ward, home, place) && pipe2(ward.life, O_CLOEXEC) == 0)
        return guard(&ward, home, place, archive, memory);
    place_refused(place, errno);
    release(&ward);
    return false;
}

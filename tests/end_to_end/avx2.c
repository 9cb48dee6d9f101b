/* Ends well where there is AVX2, and by SIGILL where there is none. */
int main(void)
{
    __asm__ volatile("vpaddb %%ymm0, %%ymm0, %%ymm0" : : : "xmm0");
    return 0;
}

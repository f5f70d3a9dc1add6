package android.view;

public class View {
    public interface OnClickListener {
        void onClick(View v);
    }

    public void setOnClickListener(OnClickListener listener) {}

    public void setPadding(int left, int top, int right, int bottom) {}

    public CharSequence getContentDescription() { return null; }

    public void setContentDescription(CharSequence contentDescription) {}

    public boolean getFitsSystemWindows() { return false; }

    public void setFitsSystemWindows(boolean fitSystemWindows) {}
}
